"""Every line that a step writes, in whatever way, is in its log, in order, and in no other's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from harness import Host, StartHost, shared

from nomaflow_api.v1.letter_words import FinishedState, Isolation
from nomaflow_api.v1.log_lines import CONTINUED, SHARED
from nomaflow_project.connectors.connector_set import ConnectorSet

WAYS = (
    "info",
    "quiet",
    "printed",
    "on stderr",
    "warned",
    "thread",
    "executor",
    "to_thread",
    "task",
    "caught",
    "LookupError",
    "not formatted",
    "no newline",
    "an open end on stderr",
)


@shared
async def test_every_way_of_logging(host: Host) -> None:
    """Loggers, print, stderr, warnings, threads, executors, tasks: all there, twenty runs at once never mixed."""
    keys = {f"tag{n:02d}": host.run("polite:logs_everywhere", {"tag": f"tag{n:02d}"}) for n in range(20)}
    for tag, key in keys.items():
        await host.sink.end_of(key)
        text = host.sink.text(key)
        for way in WAYS:
            assert way in text, (way, text)
        assert f"{tag} debug" not in text
        assert not any(other in text for other in keys if other != tag)


@shared
async def test_what_is_printed_without_a_line_feed_keeps_the_level_of_its_stream(host: Host) -> None:
    """The unfinished last line of stderr is a warning, as each before it."""
    key = host.run("polite:logs_everywhere", {"tag": "a"})
    await host.sink.end_of(key)
    levels = {line.message: line.level for line in host.sink.lines(key)}
    assert (levels["a no newline"], levels["a an open end on stderr"]) == (20, 30)


@shared
async def test_log_level_of_the_run(host: Host) -> None:
    """An attempt's log level decides, even if others with another level share its worker."""
    debug = host.run("polite:logs_everywhere", {"tag": "d"}, log_level="DEBUG")
    error = host.run("polite:logs_everywhere", {"tag": "e"}, log_level="ERROR")
    await host.sink.end_of(debug)
    await host.sink.end_of(error)
    assert "d debug" in host.sink.text(debug)
    assert "e info" not in host.sink.text(error)
    assert "e caught" in host.sink.text(error)
    assert "e printed" in host.sink.text(error)


async def test_a_plugins_own_configuration_loses_nothing(start_host: StartHost) -> None:
    """Every line is there once after a dictConfig with a root level that disables existing loggers."""
    host = await start_host()
    key = host.run("polite:configures")
    await host.sink.end_of(key)
    lines = [line.message for line in host.sink.lines(key)]
    assert lines == ["after dictConfig", "own logger"]


async def test_a_handler_that_prints_through_a_console_doubles_nothing(start_host: StartHost) -> None:
    """A record is one line, although a handler of rich, which has no stream of its own, would print it as well."""
    host = await start_host()
    key = host.run("polite:logs_richly")
    await host.sink.end_of(key)
    assert [line.message for line in host.sink.lines(key)] == ["said richly"]


@shared
async def test_records_carry_the_attempt(host: Host) -> None:
    """record.run_id, .step and .attempt are set before filters see a record."""
    end = await host.result("polite:attributes", run_id="run_7", attempt=3)
    assert json.loads(end.extras_json) == {"run_id": "run_7", "step": "step", "attempt": 3}


@shared
async def test_any_bytes_and_long_lines(host: Host) -> None:
    """Bytes that are not UTF-8 survive, long lines come in marked pieces, children's output is there."""
    key = host.run("polite:writes_bytes")
    await host.sink.end_of(key)
    lines = host.sink.lines(key)
    raw = [line.message_bytes for line in lines]
    assert b"raw \xff\xfe bytes" in raw
    assert b"buffered \xe9" in raw
    assert {"from a child", "child error", "surrogate \udcff and \ud800"} <= {line.message for line in lines}
    pieces = [line for line in lines if line.message.startswith("y")]
    assert [piece.flags & CONTINUED for piece in pieces] == [CONTINUED] * 3 + [0]
    assert "".join(piece.message for piece in pieces) == "y" * 200_000


@shared
async def test_output_of_children_in_a_shared_worker_is_marked(host: Host, marker: Path) -> None:
    """A child's output belongs to the only attempt running; among several it goes to each of them, marked."""
    alone = host.run("polite:child_in_shared")
    await host.sink.end_of(alone)
    assert [line.flags for line in host.sink.lines(alone) if "async child" in line.message] == [0]
    other = host.run("polite:waits_for", {"marker": str(marker)})
    await host.started_in(Path(f"{marker}.running"))
    crowded = host.run("polite:child_in_shared")
    await host.sink.end_of(crowded)
    marker.touch()
    await host.sink.end_of(other)
    for key in (crowded, other):
        assert [line.flags for line in host.sink.lines(key) if "async child" in line.message] == [SHARED]


@shared
async def test_a_forked_child_may_log(host: Host) -> None:
    """A process that a step forks logs through the pipe, and the ring keeps one writer."""
    key = host.run("polite:forks_and_logs")
    assert (await host.sink.end_of(key)).state is FinishedState.SUCCEEDED
    text = host.sink.text(key)
    assert "from a forked child" in text
    assert "printed by a forked child" in text
    assert "parent goes on" in text


@shared
async def test_an_end_is_not_told_before_its_last_lines(host: Host) -> None:
    """A step that has returned ends once its lines are read, however long they may not be."""
    host.sink.open = False
    key = host.run("polite:floods", {"count": 10})
    await host.sink.until(lambda: key in host.sink.starts)
    await asyncio.sleep(0.5)  # it has returned long since; nothing tells so, which is the point
    assert key not in host.sink.ends
    host.sink.open = True
    await host.sink.end_of(key)
    assert len(host.sink.lines(key)) == 10


@shared
async def test_a_closed_sink_holds_the_worker_back(host: Host) -> None:
    """A closed sink stops reading and loses nothing; the step waits and then ends with each line, in bounded chunks."""
    host.sink.open = False
    key = host.run("polite:floods", {"count": 60_000})
    await host.sink.until(lambda: key in host.sink.starts)
    await asyncio.sleep(0.3)
    assert key not in host.sink.chunks
    assert key not in host.sink.ends
    host.sink.open = True
    await host.sink.end_of(key)
    assert [int(line.message.split()[1]) for line in host.sink.lines(key)] == list(range(60_000))
    assert max(chunk.line_count for chunk in host.sink.chunks[key]) <= 500
    assert {chunk.levels for chunk in host.sink.chunks[key]} == {1 << 2}


@shared
async def test_max_log_bytes_drops_with_exact_counts(host: Host) -> None:
    """Lines over max_log_bytes are dropped, and one line says how many; the last line stays."""
    key = host.run("polite:floods", {"count": 5000}, max_log_bytes=100_000)
    await host.sink.end_of(key)
    *kept, marker, last = host.sink.lines(key)
    assert (marker.logger, last.message) == ("nomaflow.host", f"line 0004999 {'x' * 60}")
    assert f"{4999 - len(kept)} lines of" in marker.message
    assert sum("max_log_bytes" in line.message for line in host.sink.lines(key)) == 1


async def test_a_traceback_comes_after_what_was_printed_before_it(start_host: StartHost, tmp_path: Path) -> None:
    """Text without a line feed, such as a progress bar's, is no last line that stays in place of the traceback."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "work.py").write_text(
        "def bar(**_):\n    print('x' * 2000)\n    print('90%', end='')\n    1 / 0\n"
    )
    host = await start_host(tmp_path)
    key = host.run("work:bar", max_log_bytes=1024)
    await host.sink.end_of(key)
    assert host.sink.lines(key)[-1].message.endswith("ZeroDivisionError: division by zero")


@shared
async def test_progress_comes_coalesced(host: Host) -> None:
    """A thousand progress calls send few events, the last one among them, before finished."""
    key = host.run("polite:progresses")
    await host.sink.end_of(key)
    said = host.sink.said[key]
    assert len(said) < 20
    assert (said[-1].done, said[-1].total, said[-1].message) == (999.0, 999.0, "at 999")


@shared
async def test_lines_come_while_the_step_runs(host: Host, marker: Path) -> None:
    """A line of a running step is in the sink within a moment, even from an exclusive worker's print."""
    key = host.run("polite:speaks_and_waits", {"marker": str(marker)}, isolation=Isolation.EXCLUSIVE)
    await host.sink.until(lambda: "speaking" in host.sink.text(key))
    assert key not in host.sink.ends
    marker.touch()
    await host.sink.end_of(key)


async def test_credentials_are_masked(start_host: StartHost, spawn_only: bool) -> None:
    """A password of connectors.toml is in no line, error, reason or progress, however the step tells it."""
    secret = "hunter2/+geheim"
    pools = {"main": {"url": "postgresql://u@h/d", "password": secret}}
    host = await start_host(spawn_only=spawn_only, connectors=ConnectorSet(pools=pools))
    key = host.run("polite:tells", {"secret": secret})
    end = await host.sink.end_of(key)
    text = host.sink.text(key)
    shown = [text, end.error, end.reason, *(each.message for each in host.sink.said[key])]
    for form in (secret, "aHVudGVyMi8rZ2VoZWlt", "cjpodW50ZXIyLytnZWhlaW", "hunter2%2F%2Bgeheim", "geheim"):
        assert not any(form in each for each in shown), form
    assert end.error == "ValueError: cannot log in with ***"
    for line in ("record ***", "printed in***", "raw ***", "child ***", "forked ***"):
        assert line in text, line
    assert [each.message for each in host.sink.said[key]] == ["progress ***"]
