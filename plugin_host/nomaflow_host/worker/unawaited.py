"""Records coroutines that were never awaited, in the attempt that dropped them. Python reports them on collection.

Python reports a coroutine in the thread and context that drop the last reference to it, which are those of the code
that created it. In two cases no attempt is blamed, and there is only the warning in the log:

- the garbage collector finds the coroutine: the report comes wherever that happens to run, perhaps in another attempt;
- the coroutine goes with a handled exception, as in ``try: asyncio.run(work()) except RuntimeError: …``: it was given
  to something that refused it, and the code knows.
"""

from __future__ import annotations

import dis
import gc
import sys
import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_HOOK = "_warn_unawaited_coroutine"
"""The function of ``warnings`` that the interpreter calls for each such coroutine, whatever the filters are."""
_plain: Callable[[Any], None] | None = getattr(warnings, _HOOK, None)
_POP_EXCEPT = dis.opmap["POP_EXCEPT"]
_collecting = 0
_noted: ContextVar[list[str] | None] = ContextVar("nomaflow_unawaited", default=None)


def install_unawaited_capture() -> None:
    """Wrap the interpreter's warning in this process. Calling it again changes nothing."""
    if _plain is not None and getattr(warnings, _HOOK) is _plain:
        setattr(warnings, _HOOK, _warn)
        gc.callbacks.append(_note_collection)


@contextmanager
def unawaited_noted() -> Iterator[list[str]]:
    """Note the names of such coroutines, for code that runs outside an attempt."""
    install_unawaited_capture()
    names: list[str] = []
    token = _noted.set(names)
    try:
        yield names
    finally:
        _noted.reset(token)


def _warn(coroutine: Any) -> None:
    scope = current_scope()
    names = _noted.get() if scope is None else scope.unawaited
    if names is not None and _collecting != threading.get_ident() and not _ends_a_handler(sys._getframe(1)):  # noqa: SLF001
        names.append(getattr(coroutine, "__qualname__", type(coroutine).__name__))
    if _plain is not None and coroutine.cr_origin is None:  # as the plain one, but at the line of the author's code
        said = f"coroutine '{coroutine.__qualname__}' was never awaited"
        warnings.warn(said, RuntimeWarning, stacklevel=2, source=coroutine)
    elif _plain is not None:
        _plain(coroutine)


def _ends_a_handler(frame: FrameType) -> bool:
    """Return True if a frame is at the end of an ``except``: at POP_EXCEPT, or the ``name = None`` just after it."""
    return _POP_EXCEPT in frame.f_code.co_code[max(frame.f_lasti - 4, 0) : frame.f_lasti + 1 : 2]


def _note_collection(phase: str, _info: object) -> None:
    """Record the ident of the thread in which the garbage collector runs, 0 for none."""
    global _collecting  # one collector per process
    _collecting = threading.get_ident() if phase == "start" else 0
