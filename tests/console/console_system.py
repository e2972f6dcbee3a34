"""Starts a kernel, a host and a console on a copy of the demo's project, and logs in."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx

from nomaflow_console.access.links import make_code
from nomaflow_console.access.secret import ConsoleSecret
from real_system import PATIENCE, Running, System, eventually, launch

__all__ = [
    "DEMO",
    "FORMS_PROJECT",
    "RUN_PAGE_PROJECT",
    "ConsoleSystem",
    "run_until_ended",
    "running_console",
    "written_project",
]

DEMO = Path(__file__).parents[2] / "plugins" / "demo"
FORMS_PROJECT = Path(__file__).parent / "desk"
"""A project whose jobs take values."""
RUN_PAGE_PROJECT = Path(__file__).parent / "run_page_project"
"""A project whose runs have much to show, and whose steps talk a lot."""


@dataclass(kw_only=True)
class ConsoleSystem:
    """A running console with its kernel and host.

    :param system: the kernel and the host
    :param flags: options of the console
    :param module: what is run as the console, with what its environment has in addition
    """

    system: System
    flags: tuple[str, ...] = ()
    module: str = "nomaflow_console"
    environ: Mapping[str, str] = field(default_factory=dict)
    console: Running = field(default=None)  # type: ignore[assignment]  # set by start

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self.system.kernel_project

    @property
    def url(self) -> str:
        """The address that a browser opens, with the console's own host name."""
        return (self.project / ".nomaflow" / "console").read_text().split()[0]

    @property
    def base(self) -> str:
        """The same place at 127.0.0.1, for programs that resolve no name below localhost."""
        return f"http://127.0.0.1:{self.url.rpartition(':')[2]}"

    def start(self) -> None:
        """Start the console and wait until it listens."""
        told = self.project / ".nomaflow" / "console"
        told.unlink(missing_ok=True)
        flags = self.flags or ("--listen", "127.0.0.1:0")
        log = self.system.root / "console.log"
        self.console = launch(self.module, self.project, *flags, log_file=log, environ=self.environ)
        eventually(lambda: told.exists() or self.console.ended, seconds=60)
        assert not self.console.ended, self.console.log

    def link(self) -> str:
        """Return a new login link."""
        command = [sys.executable, "-P", "-m", "nomaflow_console", "--project", str(self.project), "link"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()

    def code(self, by: str = "ann") -> str:
        """Return the code of a new login link, made here, which takes no process."""
        return make_code(ConsoleSecret.of(self.project / ".nomaflow"), by)

    def visitor(self) -> httpx.Client:
        """Return a client without a session, which sends what a browser sends with a form of ours."""
        return httpx.Client(
            base_url=self.base,
            timeout=PATIENCE,
            headers={"origin": self.base, "sec-fetch-site": "same-origin", "accept": "text/html"},
        )

    @contextlib.contextmanager
    def logged_in(self) -> Iterator[httpx.Client]:
        """A client with a session."""
        with self.visitor() as client:
            answer = client.post("/login", data={"code": self.code()})
            assert answer.status_code == 303, answer.text
            yield client

    def cookie(self) -> dict[str, str]:
        """Return the session cookie of a new login as Playwright's ``add_cookies`` takes it, for :attr:`url`."""
        with self.logged_in() as client:
            name, value = next((name, value) for name, value in client.cookies.items() if "nomaflow" in name)
        return {"name": name, "value": value, "url": self.url}


def written_project(folder: Path, *, jobs: str, work: str) -> Path:
    """Make a project of host "team" in an empty folder, with the jobs and the module ``work`` of a test; return it."""
    (folder / "plugins").mkdir()
    (folder / "plugins" / "work.py").write_text(work)
    (folder / "jobs.toml").write_text(jobs)
    (folder / "nomaflow.toml").write_text('[host]\nname = "team"\n')
    return folder


@contextlib.contextmanager
def running_console(folder: Path, *flags: str, project: Path = DEMO) -> Iterator[ConsoleSystem]:
    """Run a kernel, a host and a console on a copy of a project; stop them at the end.

    :param folder: where everything is kept
    :param flags: options of the console
    """
    copy = folder / "project"
    ignored = shutil.ignore_patterns(".nomaflow", "demo.db*", "__pycache__")
    shutil.copytree(project, copy, ignore=ignored, dirs_exist_ok=True)
    system = System(root=folder, kernel_project=copy, forks_templates=True)
    made = ConsoleSystem(system=system, flags=flags)
    try:
        system.start_kernel()
        system.launch_host("host", copy)
        eventually(lambda: any(host.manifest_digest for host in system.api.list_hosts()), seconds=120)
        made.start()
        yield made
    finally:
        if made.console is not None:
            made.console.stop()
        system.close()


def run_until_ended(running: contextlib.AbstractContextManager[ConsoleSystem]) -> None:
    """Print a link with a login, and a session's cookie; run until Ctrl-C, SIGTERM or the end of the terminal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    with running as made:
        cookie = made.cookie()
        print(made.link())
        print(f"{cookie['name']}={cookie['value']}  {made.base}", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print("ending")
