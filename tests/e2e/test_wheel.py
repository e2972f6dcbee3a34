"""The built wheel: what is in it, and that each way to install it runs its part."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from real_system import PATIENCE, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # pip resolves and unpacks

ROOT = Path(__file__).parents[2]
EXTRAS = {"bare": "", "kernel": "kernel", "host": "host", "console": "console"}
PACKAGES = {
    "nomaflow": "sdk",
    "nomaflow_alerts": "plugins/alerts",
    "nomaflow_api": "protos",
    "nomaflow_cli": "sdk",
    "nomaflow_console": "plugins/console",
    "nomaflow_host": "plugin_host",
    "nomaflow_kernel": "kernel",
    "nomaflow_launchers": "plugins/launchers",
    "nomaflow_project": "sdk",
    "nomaflow_telemetry": "sdk",
    "nomaflow_vault": "plugins",
}
"""What is installed, and the folder of this tree in which it lies."""
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("NOMAFLOW_", "PYTHON"))}
ASK_KERNEL = """
import sys
from nomaflow.client import KernelClient, SyncKernelClient

assert KernelClient
with SyncKernelClient(sys.argv[1]) as client:
    print(client.get_kernel().pid)
"""
SETTLED = """
import importlib.util, nomaflow
from nomaflow.client import KernelClient

extra = "sqlalchemy aiosqlite alembic croniter watchfiles httpx grpc_health grpc_reflection pytest".split()
print([name for name in extra if importlib.util.find_spec(name)], KernelClient.__name__, nomaflow.StepResult.__name__)
"""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A clean environment with the wheel in it, and a directory to work in."""

    python: Path
    folder: Path

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run its Python with these arguments, check the exit code, and return what was printed."""
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=ENVIRONMENT,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def nomaflow(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command that the wheel installed."""
        return self.run(str(self.python.with_name("nomaflow")), *arguments, code=code)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a part in the background; stop it, and check that it ends in order."""
        log = self.folder / f"{arguments[1]}.output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.python, *arguments], cwd=self.folder, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            yield process
        except BaseException:
            print(log.read_text())
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE)
        assert code == 0, log.read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tree, as a release does."""
    tree = tmp_path_factory.mktemp("tree") / "nomaflow"
    leave = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=leave)
    built = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(built), str(tree)]
    done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installations(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Installation]:
    """Install the wheel into a clean environment for each way; the others are given what pip has made in the first.

    What it needs is linked from the environment of the tests, in which pip has installed it.
    """
    made: dict[str, Installation] = {}
    for name, extra in EXTRAS.items():
        folder = tmp_path_factory.mktemp(name)
        python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=PATIENCE)
        [packages] = folder.glob("venv/lib/python*/site-packages")
        _link(needed_by("nomaflow", extra), packages)
        if made:
            _share(made["bare"].python, python)
        else:
            options = ["--quiet", "--no-compile", "--disable-pip-version-check", "--no-input", "--no-deps"]
            command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)]
            done = subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
        made[name] = Installation(python=python, folder=folder)
    return made


def _share(installed: Path, python: Path) -> None:
    """Give an environment what the wheel has put into another: packages, their description and the command."""
    for found in installed.parents[1].glob("lib/python*/site-packages/nomaflow*"):
        (python.parents[1] / found.relative_to(installed.parents[1])).symlink_to(found)
    script = installed.with_name("nomaflow").read_text().replace(str(installed), str(python))
    python.with_name("nomaflow").touch(mode=0o755)
    python.with_name("nomaflow").write_text(script)


def needed_by(name: str, extra: str = "") -> set[str]:
    """Return the distributions that one needs, directly and indirectly, as pip would install them."""
    seen: set[tuple[str, str]] = set()
    asked = {(name, extra)}
    while asked:
        each = asked.pop()
        seen.add(each)
        for text in metadata.requires(each[0]) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": each[1]}):
                asked |= {(canonicalize_name(requirement.name), one) for one in ("", *requirement.extras)} - seen
    return {found for found, _ in seen} - {name}


def _link(distributions: set[str], packages: Path) -> None:
    """Give an environment some distributions of that of the tests, and nothing else."""
    for name in distributions:
        found = metadata.distribution(name)
        tops = {file.parts[0] for file in found.files or () if not file.parts[0].startswith((".", "__pycache__"))}
        for top in tops:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))).resolve())


def test_the_wheel_holds_what_is_run_and_nothing_else(wheel: Path) -> None:
    """Types, scaffold, migrations and protos are in the wheel; tests, plugins and caches are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    source = {
        f"{package}/{path.relative_to(ROOT / folder / package)}"
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == source
    assert "nomaflow_cli/scaffold/plugins/myapp/cleanup.py" in names
    assert "nomaflow_kernel/store/migrations/env.py" in names
    assert not [name for name in names if re.search(r"(^|/)(test_|tests/|conftest|\.nomaflow)", name)]


def test_bare_gives_an_author_the_sdk_and_the_client(installations: Mapping[str, Installation]) -> None:
    """SDK, client and command line work without extras; other features name the missing extra, without a traceback."""
    bare = installations["bare"]
    assert bare.run("-c", SETTLED).stdout == "[] KernelClient StepResult\n"
    assert re.fullmatch(r"nomaflow \d+\.\d+\.\d+\S*\n", bare.nomaflow("version").stdout)
    project = str(bare.folder / "project")
    bare.nomaflow("init", project)
    for command in (("check", project), ("up", project), ("kernel", project), ("cron", "@daily")):
        refused = bare.nomaflow(*command, code=2).stderr
        assert "pip install 'nomaflow[kernel]'" in refused
        assert "Traceback" not in refused
    assert "pip install 'nomaflow[host]'" in bare.nomaflow("host", project, code=2).stderr
    assert "pip install 'nomaflow[console]'" in bare.nomaflow("console", project, code=2).stderr
    for part in ("kernel", "host", "console"):
        refused = bare.run("-m", f"nomaflow_{part}", "--project", project, code=78).stderr
        assert refused.endswith(f"pip install 'nomaflow[{part}]'\n")
        assert refused.count("\n") == 1
    unreachable = bare.nomaflow("jobs", "--project", project, "-o", "json", code=5).stderr
    assert json.loads(unreachable)["error"]["reason"] == "KERNEL_UNREACHABLE"


@pytest.fixture(scope="module")
def served(
    installations: Mapping[str, Installation], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, int]]:
    """Run a kernel from [kernel] on a project that the bare environment has made; return that, and the kernel's pid."""
    project = tmp_path_factory.mktemp("served") / "team"
    installations["bare"].nomaflow("init", str(project))
    with installations["kernel"].running("-m", "nomaflow_kernel", "--project", str(project)) as kernel:
        eventually((project / ".nomaflow" / "address").exists)
        yield project, kernel.pid


def test_each_part_runs_in_its_own_environment(
    installations: Mapping[str, Installation], served: tuple[Path, int]
) -> None:
    """A kernel from [kernel] and a host from [host] run a job that is triggered from the bare environment."""
    bare, (project, kernel) = installations["bare"], served
    of_project = ("--project", str(project))
    assert int(bare.run("-c", ASK_KERNEL, (project / ".nomaflow" / "address").read_text().strip()).stdout) == kernel
    with installations["host"].running("-m", "nomaflow_host", *of_project):
        eventually(lambda: "cleanup" in bare.nomaflow("jobs", *of_project).stdout)
        run = json.loads(bare.nomaflow("run", "cleanup", "--wait", "-o", "json", *of_project).stdout)
        assert run["state"] == "SUCCEEDED"
        assert run["rows_affected"] > 0


def test_a_page_opens_from_the_installed_wheel(
    installations: Mapping[str, Installation], served: tuple[Path, int]
) -> None:
    """A console from [console] logs a browser in with a link, and its page and every file of that page are there."""
    console, (project, _) = installations["console"], served
    with console.running("-m", "nomaflow_console", "--project", str(project), "--listen", "127.0.0.1:0"):
        eventually((project / ".nomaflow" / "console").exists)
        link = console.nomaflow("console", "link", str(project)).stdout.strip()
        address, _, code = link.partition("/login#")
        base = f"http://127.0.0.1:{address.rpartition(':')[2]}"
        headers = {"origin": base, "accept": "text/html"}
        with httpx.Client(base_url=base, headers=headers, timeout=PATIENCE) as browser:
            page = browser.post("/login", data={"code": code}, follow_redirects=True)
            assert page.status_code == 200, page.text
            files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
            assert len(files) >= 4
            for file in files:
                assert browser.get(file).status_code == 200, file
