"""Coroutines that were never awaited, and the attempts that are blamed for them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import types
import warnings
from collections.abc import Callable, Iterator

import pytest

from nomaflow_host.worker import unawaited

# mypy: disable-error-code="unused-coroutine"
# ruff: noqa: RUF006, SIM105, B018


async def work() -> None:
    """Do nothing."""


def dropped() -> None:
    """Drop the coroutine at once."""
    work()


def kept_until_the_end() -> None:
    """Drop the coroutine with the local names."""
    _rows = work()


def dropped_after_a_handler() -> None:
    """Drop the coroutine after an unrelated exception."""
    try:
        1 / 0
    except ZeroDivisionError:
        pass
    work()


def dropped_in_a_handler() -> int:
    """Drop the coroutine while an exception is handled."""
    try:
        1 / 0
    except ZeroDivisionError as _error:
        work()
        return 1
    return 0


def refused() -> None:
    """Hand it to what refuses it."""
    try:
        asyncio.create_task(work())
    except RuntimeError:
        pass


def refused_with_a_name() -> str:
    """Hand it to what refuses it, and look at why."""
    try:
        asyncio.create_task(work())
    except RuntimeError as error:
        return str(error)
    return ""


def refused_and_suppressed() -> None:
    """Hand it to what refuses it, without a look at why."""
    with contextlib.suppress(RuntimeError):
        asyncio.create_task(work())


def found_by_the_collector() -> None:
    """Leave it in a cycle."""
    cycle: list[object] = [work()]
    cycle.append(cycle)
    del cycle
    gc.collect()


@pytest.fixture
def blamed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the names that the running attempt is blamed for."""
    scope = types.SimpleNamespace(unawaited=[])
    monkeypatch.setattr(unawaited, "current_scope", lambda: scope)
    monkeypatch.setattr(unawaited, "_plain", None)
    monkeypatch.setattr(warnings, "_warn_unawaited_coroutine", unawaited._warn)
    gc.callbacks.append(unawaited._note_collection)
    yield scope.unawaited
    gc.callbacks.remove(unawaited._note_collection)


@pytest.mark.parametrize("forget", [dropped, kept_until_the_end, dropped_after_a_handler, dropped_in_a_handler])
def test_what_code_forgets(blamed: list[str], forget: Callable[[], object]) -> None:
    """A coroutine that code lets go is its own."""
    forget()
    assert blamed == ["work"]


@pytest.mark.parametrize("part", [refused, refused_with_a_name, refused_and_suppressed, found_by_the_collector])
def test_what_nobody_is_blamed_for(blamed: list[str], part: Callable[[], object]) -> None:
    """A coroutine that was refused, dropped with a handled exception, or found by the collector blames no attempt."""
    part()
    assert blamed == []


def test_the_warning_names_the_line_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning in the log points to the code that dropped the coroutine, not to Nomaflow."""
    monkeypatch.setattr(warnings, "_warn_unawaited_coroutine", unawaited._warn)
    with pytest.warns(RuntimeWarning, match="coroutine 'work' was never awaited") as seen:
        dropped()
    assert [each.filename for each in seen] == [__file__]
