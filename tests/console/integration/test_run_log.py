"""The log of a run over HTTP: windows by row and line, filters, search, files, and the live stream."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from console_system import RUN_PAGE_PROJECT, ConsoleSystem

from nomaflow.client import TriggerOrder
from real_system import eventually

PROJECT = RUN_PAGE_PROJECT
LINES = 12_000
NEEDLE = 7_777


@pytest.fixture(scope="module")
def long_run(console: ConsoleSystem) -> str:
    """Return the id of a run with 12,000 lines, a warning in each 5,000 of them and one error."""
    api = console.system.api
    order = TriggerOrder(job_id="big-log", op_kwargs={"scan": {"lines": LINES, "needle_at": NEEDLE}})
    run = api.wait(api.trigger(order).run_id)
    assert run.log_lines == LINES
    return run.run_id


def _lines(client: httpx.Client, run_id: str, query: str) -> dict[str, Any]:
    answer = client.get(f"/runs/{run_id}/log/lines?{query}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def _numbers(shown: dict[str, Any]) -> list[int]:
    return [line["seq"] for line in shown["lines"]]


def test_a_window_has_the_rows_that_were_asked_for(client: httpx.Client, long_run: str) -> None:
    """A window begins at a row, counted from 0 or, if negative, from the end; it does not go beyond the log."""
    shown = _lines(client, long_run, "row=6000&before=10&count=30")
    assert (shown["rows"], shown["first"], shown["row"]) == (LINES, 5990, 6000)
    assert _numbers(shown) == list(range(5991, 6021))
    assert [line["row"] for line in shown["lines"]] == list(range(5990, 6020))
    assert _numbers(_lines(client, long_run, "row=-1&count=5")) == list(range(LINES - 4, LINES + 1))
    assert _numbers(_lines(client, long_run, "row=999999999&count=2&before=0")) == [LINES - 1, LINES]
    assert len(_lines(client, long_run, "row=0&count=100000")["lines"]) == 300


def test_a_line_is_found_by_its_number_under_each_filter(client: httpx.Client, long_run: str) -> None:
    """A link to a line shows its row, or the next row if the filter leaves that line out."""
    assert _lines(client, long_run, "seq=4321")["row"] == 4320
    warned = _lines(client, long_run, "seq=5000&level=30")
    assert (warned["rows"], warned["row"], _numbers(warned)) == (3, 0, [5000, NEEDLE, 10_000])
    assert _lines(client, long_run, "seq=5001&level=30")["row"] == 1
    assert _lines(client, long_run, "step=none&row=0") == {
        "rows": 0, "first": 0, "row": 0, "last_seq": LINES, "lines": [],
    }  # fmt: skip


def test_filters_by_step_and_try_count_rows_of_their_own(client: httpx.Client, failed_run: str) -> None:
    """The log of a second try has its own rows, and its lines keep their numbers in the whole log."""
    whole = _lines(client, failed_run, "row=0&count=300")
    second = _lines(client, failed_run, "row=0&count=300&step=score&try=2")
    expected = [line["seq"] for line in whole["lines"] if (line["step"], line["try"]) == ("score", 2)]
    assert _numbers(second) == expected
    assert second["rows"] == len(expected)
    assert [line["row"] for line in second["lines"]] == list(range(len(expected)))
    middle = expected[len(expected) // 2]
    assert _lines(client, failed_run, f"seq={middle}&step=score&try=2")["row"] == expected.index(middle)


def test_the_next_error_is_found_both_ways(client: httpx.Client, failed_run: str) -> None:
    """The next error is found forwards and backwards, until there is no other."""
    whole = _lines(client, failed_run, "row=0&count=300")
    first, second = (line["seq"] for line in whole["lines"] if line["kind"] == "error")
    assert _lines(client, failed_run, "error_after=0")["row"] == first - 1
    assert _lines(client, failed_run, f"error_after={first}")["row"] == second - 1
    assert _lines(client, failed_run, f"error_after={second}")["row"] == -1
    assert _lines(client, failed_run, f"error_before={second}")["row"] == first - 1


def test_the_map_shows_where_warnings_and_errors_are(client: httpx.Client, long_run: str) -> None:
    """The map of the log has 200 parts, each with the highest level of its lines."""
    levels = _lines(client, long_run, "row=0&count=1&map=1&level=30")["map"]
    assert [level for level in levels if level] == [3, 4, 3]


def test_search_tells_what_it_finds(client: httpx.Client, long_run: str) -> None:
    """A search finds every match that the filters keep, with its line and its place on the map."""

    def found(query: str) -> tuple[int, list[int]]:
        parts = [json.loads(line) for line in client.get(f"/runs/{long_run}/log/search?{query}").text.splitlines()]
        assert parts[-1] == {"done": True}
        seqs = [seq for part in parts[:-1] for seq in part["seqs"]]
        return parts[-2]["count"], seqs

    assert found("q=NEEDLE") == (1, [NEEDLE])
    assert found("q=is+slow&level=40") == (0, [])
    assert found("q=is+slow") == (2, [5000, 10_000])
    assert found("q=is+slow&after=5000") == (1, [10_000])
    assert found("q=status%3Dok")[0] == LINES - 3


def test_a_file_has_all_lines_or_those_that_are_shown(client: httpx.Client, long_run: str) -> None:
    """A download has the whole log, a filtered part, a range, only what was printed, or what the command prints."""
    whole = client.get(f"/runs/{long_run}/log.txt")
    assert len(whole.text.splitlines()) == LINES
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["content-disposition"].startswith("attachment")
    assert " ERROR scan/1 reports.monthly: needle in tenant 7777" in whole.text
    assert len(client.get(f"/runs/{long_run}/log.txt?level=30").text.splitlines()) == 3
    assert len(client.get(f"/runs/{long_run}/log.txt?from=5&to=9").text.splitlines()) == 5
    raw = client.get(f"/runs/{long_run}/log.txt?raw=1&from=5000&to=5000").text
    assert raw == f"tenant 5000 is slow: {5000 % 977} ms\n"
    lines = [json.loads(line) for line in client.get(f"/runs/{long_run}/log.json?level=30").text.splitlines()]
    assert [line["seq"] for line in lines] == [5000, NEEDLE, 10_000]


def test_the_json_of_a_log_is_that_of_the_command_line(
    client: httpx.Client, console: ConsoleSystem, failed_run: str
) -> None:
    """The pages with ``.json`` equal ``nomaflow logs -o json`` and ``nomaflow show -o json``."""
    printed = console.system.cli("logs", failed_run, "-o", "json").out
    shown = client.get(f"/runs/{failed_run}/log.json").text
    assert [json.loads(line) for line in shown.splitlines()] == [json.loads(line) for line in printed.splitlines()]
    assert client.get(f"/runs/{failed_run}.json").json() == console.system.cli("show", failed_run, "-o", "json").json


def test_hostile_lines_are_text(client: httpx.Client, console: ConsoleSystem) -> None:
    """Markup, hidden links, marks of direction and bytes that are not UTF-8 are shown as text, and forge no line."""
    api = console.system.api
    run_id = api.wait(api.trigger("hostile").run_id).run_id
    page = client.get(f"/runs/{run_id}").text
    assert "<script>window.hurt" not in page
    assert "\u202e" not in page
    texts = ["".join(text for text, _ in line["text"]) for line in _lines(client, run_id, "row=0")["lines"]]
    assert "\\x1b]8;;javascript:window.hurt=3" in texts[1]
    assert "user \\u202egnp.exe\\u202c and \\u2066isolated\\u2069" in texts
    assert "caf\\xe9 \\xff\\xfe" in texts
    forged = [line for line in _lines(client, run_id, "row=0")["lines"] if "forged" in line["text"][0][0]]
    assert [(line["level"], line["day"][-4:] > "2020") for line in forged] == [("INFO", True)] * 2
    file = client.get(f"/runs/{run_id}/log.txt").text.splitlines()
    assert [line[:4] > "2020" for line in file if "forged" in line] == [True, False]
    assert [line for line in file if line.startswith("2020")] == []
    assert "100 %" in texts
    long = next(line for line in _lines(client, run_id, "row=5&count=1&before=0")["lines"])
    assert len(long["text"][0][0]) == 4000
    assert long["cut"] > 60_000
    whole = _lines(client, run_id, "row=5&count=1&before=0&whole=1")["lines"][0]
    assert len(whole["text"][0][0]) == 4000 + long["cut"]


def test_numbers_that_are_none_are_left_out(client: httpx.Client, long_run: str) -> None:
    """An address with a misspelt query shows the log from its beginning."""
    shown = _lines(client, long_run, "row=abc&count=-5&level=x&try=1e9")
    assert _numbers(shown) == [1]


def test_lines_come_on_the_live_stream_without_gap_or_repeat(console: ConsoleSystem) -> None:
    """A stream sends each row once and in order, even if it breaks and resumes, or the kernel is killed."""
    api = console.system.api
    order = TriggerOrder(job_id="talker", op_kwargs={"talk": {"lines": 240, "per_second": 40.0}})
    run_id = api.trigger(order).run_id
    rows: list[int] = []
    cursor, killed, breaks = "0.0", False, 0

    def take(data: str) -> None:
        told = json.loads(data)
        assert told["first"] == len(rows), "a row is missing, or comes twice"
        rows.extend(line["seq"] for line in told["lines"])
        assert told["rows"] == len(rows)

    with console.logged_in() as client:
        while len(rows) < 240:
            address = f"/live?view=run&run_id={run_id}&after={cursor}"
            before = len(rows)
            with client.stream("GET", address, headers={"accept": "text/event-stream"}) as answer:
                event, id = "", ""
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "id":
                        id = value
                    elif name == "event":
                        event = value
                    elif name == "data" and event == "log":
                        take(value)
                    elif not line:
                        cursor, event, id = id or cursor, "", ""
                        if len(rows) > 80 and not killed:
                            killed = True
                            console.system.kernel.kill()
                            console.system.start_kernel()
                        if len(rows) >= before + 40 or len(rows) >= 240:
                            break
            breaks += 1
    assert rows == list(range(1, 241))
    assert breaks >= 2
    assert eventually(lambda: console.system.run(run_id).state == "SUCCEEDED")
