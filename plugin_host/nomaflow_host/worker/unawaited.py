"""Coroutines that nobody awaited: Python tells when it collects one, and the attempt that let it go takes note.

A coroutine is told of in the thread and context that drop the last reference to it, which are those of the code that
made it. One that only the garbage collector finds is told of wherever that happens to run, in another attempt maybe:
its warning goes to the log, and no attempt is blamed.
"""

from __future__ import annotations

import gc
import threading
import warnings
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install_unawaited_capture"]

_HOOK = "_warn_unawaited_coroutine"
"""The function of ``warnings`` that the interpreter calls for each such coroutine, whatever the filters are."""
_plain: Callable[[Any], None] | None = getattr(warnings, _HOOK, None)
_collecting = 0


def install_unawaited_capture() -> None:
    """Wrap the interpreter's warning in this process. Calling it again changes nothing."""
    if _plain is not None and getattr(warnings, _HOOK) is _plain:
        setattr(warnings, _HOOK, _warn)
        gc.callbacks.append(_note_collection)


def _warn(coroutine: Any) -> None:
    scope = current_scope()
    if scope is not None and _collecting != threading.get_ident():
        scope.unawaited.append(getattr(coroutine, "__qualname__", type(coroutine).__name__))
    if _plain is not None:
        _plain(coroutine)


def _note_collection(phase: str, _info: object) -> None:
    """Keep the ident of the thread in which the garbage collector runs, 0 for none."""
    global _collecting  # one collector per process
    _collecting = threading.get_ident() if phase == "start" else 0
