"""Outcomes of callables, and texts about exceptions."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nomaflow import StepCancelled, StepFailed
from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import CallOutcome
from nomaflow_api.v1.sealing import fitting

if TYPE_CHECKING:
    from nomaflow_host.attempt.masking import Masker

_FOR_READERS = (StepFailed, StepCancelled)
_MAX_ERROR = 2000
_MAX_NOTES = 100
_MAX_NAMES = 3
_NOBODY_ASKED = "the code raised CancelledError although no cancel was requested"
_MAX_TRACEBACK = 256 * 1024
OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_CARRIERS = tuple(f"{OURS}worker{os.sep}{name}.py" for name in ("tracking", "children"))
"""They run the author's threads and pieces of work, and start processes, so they are in the middle of tracebacks."""


def masked(outcome: CallOutcome, masker: Masker) -> CallOutcome:
    """Return an outcome that fits into a letter, with credentials masked in every text of the author's code."""
    extras_json = outcome.extras_json
    if extras_json:
        extras_json = masker.json(extras_json.decode()).encode()

    def text(raw: str) -> str:
        return fitting(masker.text(raw))

    return replace(
        outcome,
        reason=text(outcome.reason),
        error=text(outcome.error),
        extras_json=extras_json,
        warnings=tuple(map(text, outcome.warnings[:_MAX_NOTES])),
    )


def outcome_of_exception(error: BaseException, mask: Callable[[str], str] = str) -> CallOutcome:
    """Return the outcome of a callable that raised *error* without a request to stop.

    :param mask: masks the credentials in a text
    """
    text = error_text(error, mask)
    state, code, reason = FinishedState.FAILED, "step_failed", text
    if isinstance(error, asyncio.CancelledError):
        state, code, reason = FinishedState.CANCELED, "raised_by_code", _NOBODY_ASKED
    elif is_step_cancelled(error):
        state, code = FinishedState.CANCELED, "step_cancelled"
    return CallOutcome(
        state=state,
        reason_code=code,
        reason=reason,
        error=text,
        exception_types=exception_types(error),
        cancelled_error=isinstance(error, asyncio.CancelledError),
    )


def is_step_cancelled(error: BaseException) -> bool:
    """Return True for a StepCancelled, and for a group of nothing else, as a TaskGroup raises."""
    return all(isinstance(each, StepCancelled) for each in _members(error))


def _members(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group and in its groups, in order; for any other exception only itself."""
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))
        else:
            yield each


def outcome_of_unawaited(names: list[str]) -> CallOutcome:
    """Return the outcome of a step that dropped coroutines: their work has not happened."""
    unique = list(dict.fromkeys(names))
    shown = ", ".join(map(repr, unique[:_MAX_NAMES])) + (" …" if len(unique) > _MAX_NAMES else "")
    noun = "coroutines were" if len(unique) > 1 else "a coroutine was"
    error = StepFailed(f"{noun} never awaited: {shown} (await it; a plain def cannot, make it an async def)")
    return replace(outcome_of_exception(error), reason_code="never_awaited")


def error_text(error: BaseException, mask: Callable[[str], str] = str) -> str:
    """Return one short text, ``ValueError: message``, or only the message if the author chose it for readers.

    :param mask: masks the credentials in a text, before it is cut
    """
    name = type(error).__name__
    text = mask(_text_of(error))
    if isinstance(error, _FOR_READERS) and text:
        return _short(text)
    if isinstance(error, BaseExceptionGroup):
        inner = "; ".join(error_text(each, mask) for each in error.exceptions[:5])
        more = f"; and {len(error.exceptions) - 5} more" if len(error.exceptions) > 5 else ""
        chosen = all(isinstance(each, _FOR_READERS) for each in _members(error))
        return _short(f"{inner}{more}" if chosen else f"{name}: {text}: {inner}{more}")
    return _short(f"{name}: {text}" if text else name)


def exception_types(error: BaseException) -> tuple[str, ...]:
    """Return the qualified names of an exception's classes, most derived first, of a group those of its members too."""
    each_of = (error, *_members(error))
    kinds = dict.fromkeys(kind for each in each_of for kind in type(each).__mro__ if kind is not object)
    names = (fitting(f"{module}.{kind.__qualname__}") for kind in kinds for module in _modules_of(kind))
    return tuple(itertools.islice(names, _MAX_NOTES))


def _modules_of(kind: type) -> Iterator[str]:
    """Yield the module of a class, and the packages above it that offer it, by which authors import it."""
    module = str(kind.__module__)
    yield module
    while package := module.rpartition(".")[0]:
        if getattr(sys.modules.get(package), "__dict__", {}).get(kind.__qualname__) is kind:
            yield package
        module = package


def author_traceback(error: BaseException, mask: Callable[[str], str] = str) -> str:
    """Return the traceback from the author's own frames on, causes included.

    :param mask: masks the credentials in a text, before it is cut
    """
    try:
        told = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
        _begin_with_the_author(told)
        text = "".join(told.format()).rstrip("\n")
    except Exception:  # noqa: BLE001  # hostile __str__, __cause__ or source files
        frames = _from_the_author(traceback.extract_tb(error.__traceback__))
        text = "".join(traceback.format_list(frames)) + error_text(error)
    text = mask(text)
    return text if len(text) <= _MAX_TRACEBACK else f"{text[:_MAX_TRACEBACK]}\n(cut: {len(text)} characters)"


def _begin_with_the_author(told: traceback.TracebackException) -> None:
    """Remove the frames before and between the author's, in causes and groups as well."""
    waiting = [told]
    while waiting:
        each = waiting.pop()
        each.stack = traceback.StackSummary.from_list(_from_the_author(each.stack))
        linked = (each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ()))
        waiting.extend(other for other in linked if other is not None)


def _from_the_author(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    theirs = itertools.dropwhile(lambda frame: frame.filename.startswith(OURS), frames)
    return [frame for frame in theirs if frame.filename not in _CARRIERS]


def _text_of(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # a subclass of str may do anything when it is used
    except BaseException as failure:  # noqa: BLE001  # the author's __str__ may raise anything, SystemExit too
        return f"(its text cannot be shown: {type(failure).__name__} in __str__)"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_ERROR else f"{text[:_MAX_ERROR]}… ({len(text)} characters)"
