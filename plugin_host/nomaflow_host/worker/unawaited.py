"""Coroutines that nobody awaited: Python tells when it collects one, and the attempt that let it go takes note.

A coroutine is told of in the thread and context that drop the last reference to it, which are those of the code that
made it. For two kinds the warning in the log has to do, and no attempt is blamed:

- one that only the garbage collector finds: it is told of wherever that happens to run, in another attempt maybe;
- one that goes with an exception that has been handled, as in ``try: asyncio.run(work()) except RuntimeError: …``: it
  was handed to something that refused it, and the code knows.
"""

from __future__ import annotations

import dis
import gc
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["install_unawaited_capture"]

_HOOK = "_warn_unawaited_coroutine"
"""The function of ``warnings`` that the interpreter calls for each such coroutine, whatever the filters are."""
_plain: Callable[[Any], None] | None = getattr(warnings, _HOOK, None)
_POP_EXCEPT = dis.opmap["POP_EXCEPT"]
_collecting = 0


def install_unawaited_capture() -> None:
    """Wrap the interpreter's warning in this process. Calling it again changes nothing."""
    if _plain is not None and getattr(warnings, _HOOK) is _plain:
        setattr(warnings, _HOOK, _warn)
        gc.callbacks.append(_note_collection)


def _warn(coroutine: Any) -> None:
    scope = current_scope()
    if scope is not None and _collecting != threading.get_ident() and not _ends_a_handler(sys._getframe(1)):  # noqa: SLF001
        scope.unawaited.append(getattr(coroutine, "__qualname__", type(coroutine).__name__))
    if _plain is not None:
        _plain(coroutine)


def _ends_a_handler(frame: FrameType) -> bool:
    """Return True where a frame is at the end of an ``except``: at POP_EXCEPT, or the ``name = None`` just after it."""
    return _POP_EXCEPT in frame.f_code.co_code[max(frame.f_lasti - 4, 0) : frame.f_lasti + 1 : 2]


def _note_collection(phase: str, _info: object) -> None:
    """Keep the ident of the thread in which the garbage collector runs, 0 for none."""
    global _collecting  # one collector per process
    _collecting = threading.get_ident() if phase == "start" else 0
