"""The live stream over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import httpx
from console_system import ConsoleSystem

from real_system import eventually


def messages(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield the messages of a stream, comments left out."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line:
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value


def test_the_line_about_the_kernel_comes_first_and_has_the_sequence_to_go_on_from(
    console: ConsoleSystem, client: httpx.Client
) -> None:
    """A stream begins with a heartbeat and the line about the kernel, whose id is where a broken stream goes on."""
    with client.stream("GET", "/live?view=&after=7.3") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        beat, first = islice(messages(answer), 2)
    assert (beat["event"], float(beat["data"]) > 0) == ("heartbeat", True)
    assert first["id"] == "7.3" or int(first["id"].partition(".")[0]) > 7
    assert 'hx-target="#kernel-line"' in first["data"]


def test_a_stop_ends_twenty_open_streams_within_two_seconds(console: ConsoleSystem) -> None:
    """A console that is told to stop ends its streams itself, and exits without an error."""
    with console.logged_in() as client:
        opened = [client.stream("GET", "/live?view=") for _ in range(20)]
        answers = [stream.__enter__() for stream in opened]
        assert [answer.status_code for answer in answers] == [200] * 20
        refused = client.get("/live?view=")
        assert (refused.status_code, refused.text) == (503, "a session has at most 20 streams\n")
        began = time.monotonic()
        code = console.console.stop()
        assert time.monotonic() - began < 10  # on an idle machine 0.2 s
        assert code == 0, console.console.log
        for stream in opened:
            stream.__exit__(None, None, None)
    assert not [word for word in ("Error", "ERROR", "exceeded") if word in console.console.log], console.console.log
    console.start()
    eventually(lambda: console.url)
