"""The parts of the supervisor that need no process."""

from __future__ import annotations

import asyncio
import os
import threading
from types import SimpleNamespace

import pytest

from nomaflow_api.v1.letter_words import LogCodec
from nomaflow_api.v1.letters import LogChunk
from nomaflow_api.v1.log_lines import CONTINUED, decode_line, encode_line, split_lines
from nomaflow_host.attempt.masking import MASK, WorkerMasker
from nomaflow_host.supervisor.attempt_log import AttemptLog
from nomaflow_host.supervisor.ladder import climb
from nomaflow_host.supervisor.outcomes import death_of
from nomaflow_host.supervisor.output_pipe import OutputPipe, TailPipe
from nomaflow_host.supervisor.settings import SupervisorSettings, reaper_environment
from nomaflow_host.worker.tracking import is_library_thread


class Target:
    """A stop target that goes at a rung of choice."""

    def __init__(self, *, exclusive: bool, goes_at: int) -> None:
        self.exclusive = exclusive
        self.gone = asyncio.Event()
        self.goes_at = goes_at
        self.taken: list[str] = []
        self.rungs: list[int] = []
        self.told: list[SimpleNamespace] = []

    def _take(self, name: str, number: int) -> None:
        self.taken.append(name)
        if number >= self.goes_at:
            self.gone.set()

    def ask(self) -> None:
        self._take("ask", 1)

    def interrupt(self) -> str:
        self._take("interrupt", 2)
        return "interrupted"

    def terminate(self) -> str:
        self._take("terminate", 3)
        return "terminated"

    def kill(self, why: str) -> None:
        self._take("kill", 4)

    def rung(self, number: int, what: str, why: str, **times: float | None) -> None:
        self.rungs.append(number)
        self.told.append(SimpleNamespace(number=number, what=what, why=why, **times))


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    ("goes_at", "taken"),
    [
        (1, ["ask"]),
        (2, ["ask", "interrupt"]),
        (3, ["ask", "interrupt", "terminate"]),
        (4, ["ask", "interrupt", "terminate", "kill"]),
    ],
)
async def test_the_ladder_ends_where_the_code_does(*, exclusive: bool, goes_at: int, taken: list[str]) -> None:
    """Each rung is taken only after the one before has failed, and each is noted, in a shared worker too."""
    target = Target(exclusive=exclusive, goes_at=goes_at)
    await climb(target, why="cancelled", grace=0.01, settings=SupervisorSettings(term_seconds=0.01, kill_seconds=0.01))
    assert target.taken == taken
    assert len(target.rungs) == len(taken)


async def test_each_rung_says_what_was_done_why_and_what_comes_next() -> None:
    """The first names the reason for the stop, later ones why the one before was not enough; the last has no next."""
    target = Target(exclusive=True, goes_at=4)
    await climb(target, why="cancelled", grace=0.01, settings=SupervisorSettings(term_seconds=0.02, kill_seconds=0.03))
    assert [(rung.number, rung.wait) for rung in target.told] == [(1, 0.01), (2, 0.02), (3, 0.03), (4, None)]
    assert target.told[0].why == "cancelled"
    assert all(rung.why.startswith("not stopped after") for rung in target.told[1:])
    assert [rung.after for rung in target.told] == sorted(rung.after for rung in target.told)
    assert target.told[3].what == "its worker's process tree is killed"


@pytest.mark.parametrize("known_at", ["the beginning", "a later moment"])
async def test_code_that_cannot_be_asked_gets_no_grace(known_at: str) -> None:
    """The ladder begins at its second rung, or goes there once it is known that asking is useless."""
    target, unaskable = Target(exclusive=True, goes_at=2), asyncio.Event()
    if known_at == "the beginning":
        unaskable.set()
    else:
        asyncio.get_running_loop().call_later(0.01, unaskable.set)
    settings = SupervisorSettings(term_seconds=600, kill_seconds=600)
    await climb(target, why="cancelled", grace=600, settings=settings, unaskable=unaskable)
    assert target.taken == ["ask", "interrupt"]
    assert target.rungs == ([2] if known_at == "the beginning" else [1, 2])


@pytest.mark.parametrize(
    ("exited", "code", "words"),
    [
        ({"signal": 9, "code": None}, "worker_died", "probably out of memory"),
        ({"signal": 11, "code": None}, "worker_died", "segmentation fault (signal 11, SIGSEGV)"),
        ({"signal": 15, "code": None}, "worker_died", "signal 15 (SIGTERM)"),
        ({"signal": 40, "code": None}, "worker_died", "signal 40"),
        ({"signal": None, "code": 3}, "worker_died", "exit code 3"),
        ({"signal": 9, "code": None, "cause": "memory_limit"}, "memory_limit", "memory_mb"),
        ({"signal": 9, "code": None, "cause": "process_limit"}, "process_limit", "max_processes"),
        ({"cause": None, "error": "no more processes"}, "host_refused", "could not be started: no more processes"),
    ],
)
def test_deaths_are_told_in_words(exited: dict[str, object], code: str, words: str) -> None:
    """Every way to die has its reason code and sentence."""
    for shared in (False, True):
        assert death_of(exited, shared=shared, started=False)[0] == code
        assert words in death_of(exited, shared=shared, started=False)[1]
        assert "the step's" not in death_of(exited, shared=shared, started=False)[1]


@pytest.mark.parametrize("exited", [{"signal": None, "code": 3}, {"signal": 11, "code": None}])
def test_a_step_is_not_blamed_for_its_neighbours(exited: dict[str, object]) -> None:
    """The reason for the death of a shared worker says that another step in it may have caused it."""
    assert "this step or another one in it" in death_of(exited, shared=True, started=True)[1]
    assert "another" not in death_of(exited, shared=False, started=True)[1]


def test_the_reaper_gets_what_an_interpreter_needs() -> None:
    """The reaper, which outlives loads, has none of their variables."""
    environ = {"NOMAFLOW_TOKEN": "1", "DB": "2", "PATH": "3", "LC_ALL": "C", "HTTPS_PROXY": "4"}
    assert reaper_environment(environ) == {"PATH": "3", "LC_ALL": "C"}


def _lines(chunks: list[LogChunk]) -> list[str]:
    split = (line for c in chunks for line in split_lines(c.body, compressed=c.codec is LogCodec.JSONL_ZLIB))
    return [decode_line(line).message for line in split]


async def test_a_log_goes_out_in_chunks_and_after_a_moment() -> None:
    """500 lines make a chunk; what is left goes out soon after, without a further call."""
    chunks: list[LogChunk] = []
    some = asyncio.Event()
    log = AttemptLog(put=lambda c: (chunks.append(c), some.set()))
    log.add([encode_line(20, 1, "a", str(n)).rstrip() for n in range(1001)])
    assert [chunk.line_count for chunk in chunks] == [500, 500]
    some.clear()
    await asyncio.wait_for(some.wait(), 30)
    assert _lines(chunks) == [str(n) for n in range(1001)]


async def test_a_bounded_log_counts_what_it_drops() -> None:
    """A line that does not fit is dropped and counted, with all after it but the last; the host's own lines stay."""
    chunks: list[LogChunk] = []
    log = AttemptLog(put=chunks.append, max_bytes=200)
    line = encode_line(20, 1, "a", "x" * 50).rstrip()
    log.add([line] * 10)
    log.host_line(20, "of the host")
    log.add([encode_line(40, 1, "a", "the traceback").rstrip()])
    log.close()
    kept = 200 // (len(line) + 1)
    *others, host, marker, last = _lines(chunks)
    assert others == ["x" * 50] * kept
    assert (host, last) == ("of the host", "the traceback")
    assert f"{10 - kept} lines of {(10 - kept) * (len(line) + 1)} bytes were dropped" in marker
    assert (log.dropped_lines, log.dropped_bytes) == (10 - kept, (10 - kept) * (len(line) + 1))


async def test_a_log_of_which_only_the_last_line_is_too_long_is_whole() -> None:
    """No line says that lines were dropped where none were."""
    chunks: list[LogChunk] = []
    log = AttemptLog(put=chunks.append, max_bytes=100)
    log.add([encode_line(20, 1, "a", text).rstrip() for text in ("short", "y" * 200)])
    log.close()
    assert (_lines(chunks), log.dropped_lines, log.dropped_bytes) == (["short", "y" * 200], 0, 0)


def test_a_pipe_gives_lines_in_pieces() -> None:
    """Lines over the bound come in pieces as they are read; the last one without a line feed comes when asked for."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    got: list[tuple[str, int]] = []
    pipe = OutputPipe(fd=reading, name="stdout", take=lambda pieces, _: got.extend(pieces), masker=WorkerMasker())
    writer = threading.Thread(target=os.write, args=(writing, b"one\n" + b"z" * 150_000 + b"\n\nend"))
    writer.start()
    while len(got) < 5:
        pipe.read()
    writer.join()
    while pipe.read():
        pass
    pipe.finish_line()
    os.close(writing)
    assert not pipe.read()
    assert pipe.ended
    pipe.close()
    assert got[0] == ("one", 0)
    assert got[-2:] == [("", 0), ("end", 0)]
    assert "".join(text for text, _ in got[1:-2]) == "z" * 150_000
    assert [flags for _, flags in got[1:-2]] == [CONTINUED, CONTINUED, 0]


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("character", ["é".encode(), b"\x80"])
def test_a_pipe_is_cut_between_characters(character: bytes, end: bytes) -> None:
    """Of bytes that are no UTF-8, every one survives."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    got: list[str] = []

    def take(pieces: list[tuple[str, int]], _pipe: OutputPipe) -> None:
        got.extend(text for text, _ in pieces)

    pipe = OutputPipe(fd=reading, name="stdout", take=take, masker=WorkerMasker())
    written = b"a" + character * 90_000 + end
    for at in range(0, len(written), 60_000):
        os.write(writing, written[at : at + 60_000])
        pipe.read()
    pipe.finish_line()
    os.close(writing)
    pipe.close()
    assert "".join(got).encode("utf-8", "surrogateescape") == written.removesuffix(b"\n")
    assert len(got) > 1
    assert {text.isprintable() for text in got} == {character != b"\x80"}


@pytest.mark.parametrize("ahead", range(65_520, 65_560, 4))
def test_a_piece_of_a_pipe_never_ends_within_a_credential(ahead: int) -> None:
    """Only the beginning of it has come when the line is already too long."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    masker, shown = WorkerMasker(["hunter2-secret"]), ""

    def take(pieces: list[tuple[str, int]], _pipe: OutputPipe) -> None:
        nonlocal shown
        shown += "".join(text for text, _ in pieces)

    pipe = OutputPipe(fd=reading, name="stdout", take=take, masker=masker)
    for data in (b"x" * ahead, b"hunter2", b"-secret", b"y" * 60_000, b"y" * 10_000):
        for part in (data[:30_000], data[30_000:60_000], data[60_000:]):
            os.write(writing, part)
            pipe.read()
    pipe.finish_line()
    os.close(writing)
    pipe.close()
    assert shown.strip("xy") == MASK
    assert shown.count("x") + shown.count("y") == ahead + 70_000


def test_a_tail_is_bounded() -> None:
    """The last 4 KiB of a template's output are kept."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    pipe = TailPipe(reading)
    for _ in range(10):
        os.write(writing, b"noise" * 1000)
        while pipe.read():
            pass
    os.write(writing, b"the end")
    pipe.read()
    os.close(writing)
    pipe.close()
    assert pipe.text.endswith("the end")
    assert len(pipe.text) == 4096


def test_whose_thread_it_is() -> None:
    """A thread that runs an author's function counts as the step's code, one of a library's loop does not."""
    from aiosqlite.core import _connection_worker_thread

    assert not is_library_thread(threading.Thread(target=test_whose_thread_it_is))
    assert not is_library_thread(threading.Timer(1, test_whose_thread_it_is))
    assert is_library_thread(threading.Thread(target=_connection_worker_thread))
