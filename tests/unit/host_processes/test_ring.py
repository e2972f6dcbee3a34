"""The ring in shared memory."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from nomaflow_host.channel.ring.page import DATA_BYTES, HEAD, TAIL, RingPage, create_ring_memory
from nomaflow_host.channel.ring.reader import RingReader
from nomaflow_host.channel.ring.writer import RingWriter


class Pair:
    """A writer and a reader of one ring, each with its own mapping."""

    def __init__(self) -> None:
        fd = create_ring_memory()
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self.doorbell, self.room = os.eventfd(0, flags), os.eventfd(0, flags)
        self.writing, self.reading = RingPage(fd), RingPage(fd)
        os.close(fd)
        self.writer = RingWriter(page=self.writing, doorbell=self.doorbell, room=self.room)
        self.reader = RingReader(page=self.reading, room=self.room)

    def rings(self) -> int:
        try:
            return int.from_bytes(os.read(self.doorbell, 8), "little")
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self.writing.close()
        self.reading.close()
        os.close(self.doorbell)
        os.close(self.room)


@pytest.fixture
def ring() -> Iterator[Pair]:
    """A ring with both its sides."""
    pair = Pair()
    yield pair
    pair.close()


def test_records_come_whole_across_the_end_and_across_reads(ring: Pair) -> None:
    """Records that wrap, and reads that end in the middle of one, lose and change nothing."""
    sent, got = [], []
    for number in range(5000):
        record = b"%d:" % number + b"x" * (number % 997)
        ring.writer.write(record + b"\n")
        sent.append(record)
        if number % 7 == 0:
            got += ring.reader.read(4000)
    while len(got) < len(sent):
        got += ring.reader.read(DATA_BYTES)
    assert got == sent


def test_a_full_ring_waits_and_drops_nothing(ring: Pair) -> None:
    """A writer with a full ring rings, waits, and continues once there is room."""
    count = 3 * DATA_BYTES // 1000

    def write() -> None:
        for number in range(count):
            ring.writer.write(b"%06d" % number + b"y" * 993 + b"\n")

    thread = threading.Thread(target=write)
    thread.start()
    rung, _, _ = select.select([ring.doorbell], [], [], 60)
    got: list[bytes] = []
    while len(got) < count:
        got += ring.reader.read(64 * 1024)
    thread.join()
    assert rung
    assert [int(record[:6]) for record in got] == list(range(count))


def test_threads_do_not_mix_records(ring: Pair) -> None:
    """Records of several threads come whole, each thread's in order."""

    def write(name: bytes) -> None:
        for number in range(2000):
            ring.writer.write(name * 20 + b"%05d\n" % number)

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    got: list[bytes] = []
    while len(got) < 6000:
        got += ring.reader.read(DATA_BYTES)
    for thread in threads:
        thread.join()
    for name in (b"a", b"b", b"c"):
        mine = [record for record in got if record.startswith(name)]
        assert [int(record[-5:]) for record in mine] == list(range(2000))
        assert all(record[:20] == name * 20 for record in mine)


def test_a_write_within_a_write_comes_after_it(ring: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finaliser that logs in the middle of a write neither deadlocks nor tears the record."""
    put = ring.writer._put

    def interrupted(record: bytes) -> None:
        if record == b"outer\n":
            ring.writer.write(b"inner\n")
        put(record)

    monkeypatch.setattr(ring.writer, "_put", interrupted)
    ring.writer.write(b"outer\n")
    assert ring.reader.read(DATA_BYTES) == [b"outer", b"inner"]


def test_the_doorbell_rings_once_when_armed(ring: Pair) -> None:
    """The first record after arming rings; arming fails if a record has already arrived."""
    ring.writer.write(b"before\n")
    assert ring.rings() == 0
    assert not ring.reader.arm()
    ring.reader.read(100)
    assert ring.reader.arm()
    ring.writer.write(b"one\n")
    ring.writer.write(b"two\n")
    assert ring.rings() == 1


def test_cancel_bytes_and_words_are_shared(ring: Pair) -> None:
    """Each side sees the values that the other sets."""
    ring.reading.cancelled[999] = 1
    assert ring.writing.cancelled[999] == 1
    ring.writing.beat_ns = 2**62
    ring.writing.blocker = 0
    assert (ring.reading.beat_ns, ring.reading.blocker) == (2**62, 0)
    ring.writing.blocker = None
    assert ring.reading.blocker is None


def test_a_scribbled_header_harms_nobody(ring: Pair) -> None:
    """A tail that plugin code has overwritten gives nothing to read."""
    ring.writing.words[TAIL] = 2**63
    assert ring.reader.read(100) == [] or ring.reader.position >= 0


def test_a_record_that_never_ends_is_damage(ring: Pair) -> None:
    """The host keeps no more of it than a ring holds."""
    for _ in range(9):
        assert not ring.reader.damaged
        ring.writer.write(b"x" * (DATA_BYTES // 8))
        ring.reader.read(DATA_BYTES)
    ring.writer.write(b"x")
    assert ring.reader.read(DATA_BYTES) == []
    assert ring.reader.damaged


@pytest.mark.parametrize("size", [0, 4096, 8 * DATA_BYTES])
def test_nobody_changes_its_size(size: int) -> None:
    """The size of the memory is fixed, since truncation would end every process that reads it."""
    fd = create_ring_memory()
    with pytest.raises(PermissionError):
        os.ftruncate(fd, size)
    os.close(fd)


def test_a_header_that_was_overwritten_is_noticed(ring: Pair) -> None:
    """An overwritten header is not used for reading, and the reader keeps its own place."""
    ring.writer.write(b"000first\n")
    assert ring.reader.read(DATA_BYTES) == [b"000first"]
    for word, value in ((TAIL, 1 << 60), (TAIL, 0), (HEAD, 5)):
        kept = ring.writing.words[word]
        ring.writing.words[word] = value
        assert ring.reader.read(DATA_BYTES) == []
        assert ring.reader.damaged
        ring.writing.words[word] = kept
    ring.writer.write(b"000second\n")
    assert ring.reader.read(DATA_BYTES) == [b"000second"]
    assert not ring.reader.damaged
