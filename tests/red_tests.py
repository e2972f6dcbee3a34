"""A pytest plugin: a red test never reddens another, and no test leaves its directory or its environment changed.

What a test has open lives as long as its frames do. The traceback of a red test keeps them until a later one runs,
which would be blamed for what is found unclosed. So a red test is cleared away whole before the next one begins: its
fixtures end, also those that it shares, since nobody knows in what state they are; its frames are let go; and the
processes that it has left are killed.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import pytest

_MARK = "STARTED_BY_TESTS_OF"
"""In the environment of every process that a test starts: the process of its tests."""
_END_SECONDS = 5.0


@dataclass(kw_only=True)
class _Trial:
    """A test while it runs: how it found its surroundings, and the errors whose frames hold what it has open."""

    cwd: str
    environ: dict[str, str]
    errors: list[BaseException] = field(default_factory=list)


_TRIAL = pytest.StashKey[_Trial]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test, and clear away what a red one has left."""
    os.environ[_MARK] = str(os.getpid())
    trial = item.stash[_TRIAL] = _Trial(cwd=os.getcwd(), environ=_environ())
    hooks = sys.unraisablehook, threading.excepthook
    try:
        result = yield
        if trial.errors:
            _kill_what_is_left()
            _let_go(trial.errors)
        return result
    finally:
        sys.unraisablehook, threading.excepthook = hooks


def _ignore(_: object) -> None:
    """Report nothing."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a test's errors; once there is one, nothing that is found unclosed makes another."""
    report = yield
    if call.excinfo is not None and report.failed:
        item.stash[_TRIAL].errors.append(call.excinfo.value)
        sys.unraisablehook = threading.excepthook = _ignore
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """End every fixture after a red test, so that the next one gets new ones; check that everything is restored."""
    trial = item.stash[_TRIAL]
    with _surroundings_restored(trial):
        if trial.errors:
            item.session._setupstate.teardown_exact(None)
        try:
            return (yield)
        except BaseException:  # the teardown is what is red
            item.session._setupstate.teardown_exact(None)
            raise


@contextmanager
def _surroundings_restored(trial: _Trial) -> Iterator[None]:
    try:
        yield
    finally:
        found = (_cwd(), _environ())
        if found != (trial.cwd, trial.environ):
            os.chdir(trial.cwd)
            for name in found[1].keys() - trial.environ.keys():
                del os.environ[name]
            os.environ.update(trial.environ)
    assert trial.errors or found == (trial.cwd, trial.environ), "the test has left the directory or environment changed"


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def _cwd() -> str:
    with suppress(FileNotFoundError):
        return os.getcwd()
    return ""


def _let_go(errors: list[BaseException]) -> None:
    """Release the frames of errors, and all objects that only they held."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while errors:
            traceback.clear_frames(errors.pop().__traceback__)
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                delattr(sys, name)
        gc.collect()


def _kill_what_is_left() -> None:
    """Kill what this process has below it, and what has come from it: no fixture is left that needs a process."""
    left = psutil.Process().children(recursive=True)
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(_MARK) == str(os.getpid()) and process.pid != os.getpid():
            left.append(process)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_END_SECONDS)
