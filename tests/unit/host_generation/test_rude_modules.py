"""Modules that misbehave when they are imported or looked at: they stop neither the load nor the process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nomaflow_host.generation.generation import load_generation
from nomaflow_host.generation.import_guard import restored_process
from nomaflow_host.generation.spec import ProjectSpec

HOSTILE = '''
import sys

class Proxy:
    def __getattr__(self, name):
        raise RuntimeError("outside of a request")
    def __call__(self): ...

class Unfriendly:
    @property
    def __class__(self):
        raise RuntimeError("no class")
    def __call__(self): ...

class Meta(type):
    def _raise(cls, *_):
        raise RuntimeError("hands off")
    __eq__ = __hash__ = __repr__ = __instancecheck__ = __subclasscheck__ = _raise

class Untouchable(metaclass=Meta): ...

proxy, unfriendly = Proxy(), Unfriendly()

def looped(**_): ...
looped.__wrapped__ = looped

def fine(*, n: int = 1, odd: Untouchable = None, odder: unfriendly = unfriendly):
    """Work."""
    return n
'''
LAZY = """
import sys

class Lazy:
    __slots__ = ()
    def __getattr__(self, name):
        raise RuntimeError(f"no {name} today")

sys.modules[__name__] = Lazy()
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave modules and paths of this process as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def test_objects_that_raise_when_they_are_asked(tmp_path: Path) -> None:
    """A lazy proxy, an object without a class and annotations that raise hide no function and stop no load."""
    (tmp_path / "rude_hostile.py").write_text(HOSTILE)
    (tmp_path / "rude_lazy.py").write_text(LAZY)
    named = ("rude_hostile:proxy", "rude_hostile:unfriendly", "rude_hostile:looped", "rude_lazy:work")
    folder = str(tmp_path)
    spec = ProjectSpec(host="h", root=folder, sys_path=(folder,), plugin_dirs=(folder,), named_callables=named)
    manifest = load_generation(spec, entry_points=()).manifest()
    assert manifest["callables"]["rude_hostile:fine"]["error"] is None
    shown = [each["annotation"] for each in manifest["callables"]["rude_hostile:fine"]["parameters"]]
    assert shown == ["int", "rude_hostile.Untouchable", "<Unfriendly>"]
    errors = [manifest["callables"][reference]["error"] for reference in named]
    assert all(reference in error for reference, error in zip(named, errors, strict=True))
    assert "no work today" in errors[-1]


def test_manners_are_kept(tmp_path: Path) -> None:
    """Signals, directory, umask, collector and streams are afterwards as they were before."""
    before = (signal.getsignal(signal.SIGCHLD), os.getcwd(), gc.isenabled(), sys.stdout, sys.excepthook)
    mask = os.umask(0o022)
    try:
        with restored_process():
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            os.chdir(tmp_path)
            os.umask(0o777)
            gc.disable()
            sys.stdout = sys.excepthook = None  # type: ignore[assignment]  # what a rude module does
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
    assert (signal.getsignal(signal.SIGCHLD), os.getcwd(), gc.isenabled(), sys.stdout, sys.excepthook) == before


FORKING = """
import os
from nomaflow_host.generation.import_guard import restored_process

with restored_process():
    child = os.fork()
print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_fork_that_comes_back_ends() -> None:
    """A process that an import forked ends and does not continue beside the loading one.

    In an interpreter of its own: a child of a process that has used gRPC may crash in what gRPC does after a fork.
    """
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", ""), "printed once, by the original"
