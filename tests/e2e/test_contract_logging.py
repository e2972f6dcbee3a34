"""A step's complete output reaches its run's log and no other."""

from __future__ import annotations

import pytest
from contract_stage import Stage

pytestmark = pytest.mark.e2e

SPOKEN = [
    "from the module", "from a child logger", "from the root", "from ctx.log", "from one that does not propagate",
    "from one with handlers", "named from a mapping", "at a level of its own", "from print", "in-pieces",
    "without an end", "from stderr", "from the descriptor", "from a task", "from to_thread",
    "from the default executor", "from an executor", "from a thread", "from a timer", "from call_soon",
]  # fmt: skip


def said(messages: list[str]) -> list[str]:
    """Return the lines that are the step's own, without the traces of hooks."""
    return [each for each in messages if "nomaflow.hooks: " not in each]


def test_every_way_of_saying(stage: Stage) -> None:
    """Each way of saying something makes exactly one line of the run's log, with level and logger."""
    ran = stage.run("speaking.out:every_way")
    assert ran.extras == {"memory": 1}
    messages = said(ran.messages)
    for words in SPOKEN:
        assert sum(words in each for each in messages) == 1, (words, messages)
    assert "too quiet" not in ran.log
    assert any("from warnings" in each and "UserWarning" in each for each in messages)
    assert any(each.startswith("with a traceback\nTraceback") and "LookupError: gone" in each for each in messages)
    assert any(each.startswith("with a stack\nStack") for each in messages)
    assert "broken %d (not formatted: TypeError)" in messages
    assert "from bytes \udcff\udcfe" in messages
    by_text = {line.message: line for line in ran.lines}
    assert (by_text["from a child logger"].level, by_text["from a child logger"].logger) == (30, "a.b.c")
    assert (
        by_text["from ctx.log"].level,
        by_text["from print"].level,
        by_text["without an end; from stderr"].level,
    ) == (40, 20, 30)
    assert {(line.step, line.attempt) for line in ran.lines} == {("it", 1)}
    assert [line.seq for line in ran.lines] == list(range(1, len(ran.lines) + 1))


def test_child_processes(stage: Stage) -> None:
    """Output of child processes, on both streams and from a fork, belongs to the attempt."""
    messages = said(stage.run("speaking.out:children").messages)
    for words in ("from a child", "from its stderr", "from a python child", "from os.system", "printed in a fork"):
        assert messages.count(words) == 1, (words, messages)
    assert any("logged in a fork" in each for each in messages)


def test_a_plugins_own_configuration(stage: Stage) -> None:
    """dictConfig and basicConfig of a step silence nothing, neither now nor in the next step."""
    messages = said(stage.run("speaking.out:reconfigures").messages)
    assert [each for each in messages if each] == ["still here", "from a configured logger", "after basicConfig"]
    assert "at info" in stage.run("speaking.out:levels").messages


def test_silence_does_not_spread(stage: Stage) -> None:
    """logging.disable silences no step: not the one that calls it, and none after it."""
    assert "disabled by its author" in stage.run("speaking.out:silences").messages
    for _ in range(4):
        assert "not disabled any more" in stage.run("speaking.out:after_silence").messages


@pytest.mark.parametrize("name", ["replaces_streams", "closes_streams"])
def test_replaced_streams(stage: Stage, name: str) -> None:
    """A step that replaces or closes sys.stdout does not affect other steps."""
    ran = stage.run(f"speaking.out:{name}")
    assert ran.state == "SUCCEEDED", ran.error
    assert "logged all the same" in ran.messages
    for _ in range(4):
        assert "printed by the next step" in stage.run("speaking.out:prints_again").messages


def test_a_queue_handler(stage: Stage) -> None:
    """A handler of the author's gets its records as well."""
    ran = stage.run("speaking.out:through_a_queue")
    assert ran.it.rows_affected == 1
    assert said(ran.messages) == ["by way of a queue"]


def test_records_carry_the_run(stage: Stage) -> None:
    """The author's own handlers see run_id, step and attempt on each record."""
    assert stage.run("speaking.out:records").extras == {"kept": [[True, "it", 1]]}


def test_levels_of_job_and_run(stage: Stage) -> None:
    """The default is INFO; the job's log_level is over it, and the run's over that."""

    def levels(messages: list[str]) -> list[str]:
        return [each.removeprefix("at ") for each in messages if each.startswith("at ")]

    everything = ["debug", "info", "warning", "error", "critical"]
    assert levels(stage.run("speaking.out:levels").messages) == everything[1:]
    assert levels(stage.run_job("debug").messages) == everything
    assert levels(stage.run_job("debug", log_level="ERROR").messages) == everything[3:]
    assert levels(stage.run("speaking.out:levels", log_level="DEBUG").messages) == everything


def test_runs_never_mix(stage: Stage) -> None:
    """Each log of runs in shared workers has all lines of its own run and no other, from any thread or task."""
    marks = ["red", "green", "blue", "grey"]
    started = {mark: stage.start("speaking.out:mixes", {"mark": mark}) for mark in marks}
    for mark, run_id in started.items():
        messages = said(stage.ended(run_id).messages)
        assert {each.split()[0] for each in messages} == {mark}
        for source in ("thread0", "thread1", "thread2", "to_thread", "task0", "task1", "task2", "pool"):
            for kind in ("", "printed "):
                own = [each for each in messages if each.startswith(f"{mark} {source} {kind}")]
                numbers = [each.split()[-1] for each in own if ("printed" in each) == bool(kind)]
                assert numbers == [str(n) for n in range(50)], (mark, source, kind)


def test_thousands_of_lines(stage: Stage) -> None:
    """12,000 lines of one step are all there, in order; printed ones as well."""
    ran = stage.run("speaking.out:many", {"count": 12_000})
    assert [each for each in ran.messages if each.isdigit()] == [str(n) for n in range(12_000)]
    printed = stage.run("speaking.out:many_prints", {"count": 4_000})
    assert [each for each in printed.messages if each.isdigit()] == [str(n) for n in range(4_000)]


def test_long_lines(stage: Stage) -> None:
    """A line over 64 KiB is kept whole, in pieces that are marked; those of another source may come between them."""
    ran = stage.run("speaking.out:long_lines")
    said = [line for line in ran.lines if "nomaflow.hooks: " not in line.message]
    sent = {"é": "é" * 100_000, "p": "p" * 200_000, "d": "d" * 150_000, "a": "after"}
    for first, text in sent.items():
        pieces = [line for line in said if line.message.startswith(first)]
        assert "".join(piece.message for piece in pieces) == text
        assert all(piece.continued for piece in pieces[:-1])
    # A line whose last piece is full may end with an empty one.
    assert {line.message[:1] for line in said} - set(sent) <= {""}
    assert sum(not line.continued for line in said) == len(sent)
    assert max(len(line.message.encode()) for line in ran.lines) <= 65536


def test_any_bytes(stage: Stage) -> None:
    """Bytes that are no text, control characters and lone surrogates survive."""
    messages = said(stage.run("speaking.out:any_bytes").messages)
    raw = bytes(range(256)).replace(b"\n", b"").decode("utf-8", "surrogateescape")
    assert raw in messages
    printed = "".join(map(chr, range(32, 300))) + "\ud800"
    assert printed.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") in messages
    assert "null \x00, escape \x1b[31m, surrogate \udcff, line\nfeed, return\rhere" in messages
