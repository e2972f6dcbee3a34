"""Fixtures for every test."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from postgres_server import PostgresServer

pytest_plugins = ["machine_parts", "red_tests"]


_IS_FIRST = "PYTEST_XDIST_WORKER" not in os.environ


_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30
"""Bytes of memory that must be free for the files of tests: a whole run keeps less than one GiB."""


def _keep_files_in_memory() -> None:
    """Have the files of tests in memory, where there is room and programs may be run from there.

    A disk asks a tenth of all CPU for them, and a wait for each commit of the many stores.
    """
    if "TMPDIR" in os.environ or not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK):
        return
    found = os.statvfs(_MEMORY)
    room = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    if room >= _ROOM and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def _remove_bytecode_of_earlier_projects(kept: Path) -> None:
    """Remove the bytecode of tests' projects, which were temporary, but not ours if this clone is temporary too."""
    temporary = Path(tempfile.gettempdir())
    for each in kept.joinpath(*temporary.parts[1:]).glob("*"):
        if not Path(__file__).is_relative_to(temporary / each.name):
            shutil.rmtree(each, ignore_errors=True)


def _keep_bytecode() -> None:
    """Have the processes that tests start compile the code once, even if nothing may be written beside the sources."""
    if not sys.dont_write_bytecode:
        return
    kept = Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    if _IS_FIRST:
        _remove_bytecode_of_earlier_projects(kept)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(kept))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix, sys.dont_write_bytecode = os.environ["PYTHONPYCACHEPREFIX"], False


_keep_files_in_memory()
_keep_bytecode()
# A shell has what it starts in the background ignore SIGINT, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import settings  # noqa: E402  # pytest compiles its modules anew wherever none may be kept
from hypothesis.internal.conjecture import providers  # noqa: E402  # as above

# The same examples everywhere: what is green on one machine is green on the next, however slow that is. Search for new
# ones with `pytest --hypothesis-profile=explore`.
settings.register_profile("suite", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("suite")
# Hypothesis would read every loaded module of ours for constants to try: seconds of each worker in a fresh clone, and
# other examples wherever other tests have run before.
vars(providers)["_get_local_constants"] = lambda: providers._local_constants


_LONG_FIRST = ("torture", "browser", "e2e", "integration", "contract")
"""Folders of long tests, longest first, so that no process is left alone with them at the end."""
_DEALT = 0.8
"""Share of the short files that run beside long ones: these mostly wait, those keep a core busy. Others end a run."""
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


# Modules and tests live as long as the session: the collector looks at them neither while they come nor later.
gc.disable()


def pytest_collection_finish() -> None:
    """Exempt what the collection has made from garbage collection, which begins here."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Have each worker begin elsewhere in every folder, so that it compiles modules that no other has met yet."""
    report = yield
    if isinstance(collector, pytest.Dir):
        first = len(report.result) * _WORKER // _WORKERS
        report.result = [*report.result[first:], *report.result[:first]]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by file, and deal short files out between long ones: all workers must have the same order."""

    def rank(path: Path) -> int:
        return next((rank for rank, name in enumerate(_LONG_FIRST) if name in path.parts), len(_LONG_FIRST))

    files = sorted({item.path for item in items}, key=lambda path: (rank(path), path))
    long = [path for path in files if rank(path) < len(_LONG_FIRST)]
    short = files[len(long) :]
    place = {path: number / len(long) for number, path in enumerate(long)}
    place |= {path: number / (len(short) * _DEALT) for number, path in enumerate(short)}
    items.sort(key=lambda item: (place[item.path], item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one worker all tests of the authors' contract: each worker that has some starts a system of either kind."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # there if this is called

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "the contract" if "/test_contract_" in file else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Remove the bytecode of a test's modules with them: the folder of the next test may have the same name.

    Python takes bytecode for that of a module whose length and second of change it has.
    """
    yield tmp_path
    if sys.pycache_prefix:
        shutil.rmtree(Path(sys.pycache_prefix).joinpath(*tmp_path.parts[1:]), ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start one PostgreSQL server for the session; stop and remove it at the end."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
