"""Printed text that has no line feed yet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nomaflow_host.attempt.masking import MASK, Masker, WorkerMasker
from nomaflow_host.worker.partial_lines import UnfinishedLine
from nomaflow_host.worker.scope import AttemptScope


def test_lines_come_whole() -> None:
    """Text is kept until its line feed comes, whatever pieces it comes in."""
    line, nothing = UnfinishedLine(), Masker(())
    assert line.add("a", nothing) == ([], "")
    assert line.add("b\nc\n\nd", nothing) == (["ab", "c", ""], "")
    assert (bool(line), line.end(), bool(line)) == (True, "d", False)


@pytest.mark.parametrize("size", [1, 1000, 70_000])
def test_an_endless_line_comes_in_pieces(size: int) -> None:
    """A line is not kept beyond a limit; its end is reported, even if nothing is left of it."""
    line, pieces, nothing = UnfinishedLine(), [], Masker(())
    for _ in range(200_000 // size + 1):
        lines, piece = line.add("x" * size, nothing)
        assert lines == []
        pieces.append(piece)
    assert max(map(len, pieces)) <= 65_536 + size
    assert bool(line)
    assert sum(map(len, pieces)) + len(line.end()) == size * (200_000 // size + 1)
    assert not line


@pytest.mark.parametrize("ahead", range(65_530, 65_560, 3))
def test_a_piece_never_ends_within_a_credential(ahead: int) -> None:
    """It is written in two parts, where a piece may end between them."""
    line, masker, shown = UnfinishedLine(), Masker(["hunter2-secret"]), ""
    for text in ("x" * ahead, "hunter2", "-secret", "y" * 70_000):
        shown += line.add(text, masker)[1]
    shown += masker.text(line.end())
    assert shown.strip("xy") == MASK
    assert shown.count("x") + shown.count("y") == ahead + 70_000
    assert line.add("hunter2-secret" * 6000, masker)[1].strip("*") == ""


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_character_that_is_written_in_two_parts_is_one(end: str) -> None:
    """Whoever writes bytes may cut between them; a credential is known as the text that it is."""
    line, masker = UnfinishedLine(), Masker(["pässword-1"])
    shown = ""
    for byte in f"é: pässword-1{end}".encode():
        lines, _ = line.add(bytes([byte]).decode("utf-8", "surrogateescape"), masker)
        shown += "".join(lines)
    shown += line.end()
    assert masker.text(shown) == f"é: {MASK}"
    line.add("\ud800 é", masker)
    line.add("\udcff", masker)
    assert line.end() == "\ud800 é\udcff"


def test_a_line_is_of_one_thread() -> None:
    """Two threads whose texts and line feeds fall between each other make two lines, and an open end is kept."""
    kept: list[str] = []
    emitter = SimpleNamespace(line=lambda *line: kept.append(line[4]), masker=WorkerMasker())
    order = SimpleNamespace(run_id="run_1", step="one", attempt=1)
    scope = AttemptScope(order=cast("Any", order), slot=0, level=20, emitter=cast("Any", emitter))
    with ThreadPoolExecutor(1) as red, ThreadPoolExecutor(1) as blue:
        for thread, text in ((red, "red"), (blue, "blue"), (red, "\n"), (blue, "\n"), (red, "open"), (blue, "more\n")):
            thread.submit(scope.printed, "stdout", text).result()
    assert kept == ["red", "blue", "more"]
    scope.flush_printed()
    assert kept[3:] == ["open"]
