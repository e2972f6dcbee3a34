"""Events that do not fit into memory: spilled, capped, on a full disk, remembered."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from outbox_driver import KEY, Clock, acknowledge, chunk, deliver_all, finished, order, shown, started

from nomaflow_api.v1.letters import LogChunk, Progress
from nomaflow_api.v1.log_lines import decode_line
from nomaflow_api.v1.sealing import open_event
from nomaflow_host.outbox import ended_attempts
from nomaflow_host.outbox.ended_attempts import AnswerBook
from nomaflow_host.outbox.event_storage import Segment, SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.process.errors import StateUnwritable


def test_what_does_not_fit_into_memory_is_spilled_and_delivered_in_order(
    make: Callable[..., Outbox], tmp_path: Path
) -> None:
    """Memory stays bounded without a kernel, every event arrives later once, in order, and files are deleted."""
    outbox = make()
    outbox.accept(order())
    bodies = [f"{number:06d}".encode() + b"." * 50_000 for number in range(600)]
    for body in bodies:
        outbox.log(KEY, chunk(body))
    store = outbox._store
    assert store.memory_bytes <= (8 << 20) + 60_000
    assert outbox.spilled_bytes >= 20 << 20
    files = list((tmp_path / "spill").glob("*.events"))
    assert files
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert deliver_all(outbox)[KEY] == bodies
    assert (store.memory_bytes, outbox.spilled_bytes) == (0, 0)
    assert not list((tmp_path / "spill").glob("*.events"))
    outbox.log(KEY, chunk(bodies[0]))
    assert not outbox.spilled_bytes, "the kernel has all that filled the memory"


def test_deleting_the_spill_file_loses_nothing(make: Callable[..., Outbox], tmp_path: Path) -> None:
    """Someone who cleans the folder does not hurt what is under way."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    for number in range(10):
        outbox.log(KEY, chunk(b"%d" % number))
    for file in (tmp_path / "spill").glob("*"):
        file.unlink()
    assert deliver_all(outbox)[KEY] == [b"%d" % number for number in range(10)]


def test_a_file_that_cannot_be_deleted_stops_nothing(make: Callable[..., Outbox], tmp_path: Path) -> None:
    """The kernel's answer is applied on a disk that has become read-only, too; a later start that meets it says so."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))
    outbox.finished(KEY, finished())
    files = list((tmp_path / "spill").glob("*"))
    for file in files:  # no user can delete a folder as a file
        file.unlink()
        file.mkdir()
    assert deliver_all(outbox)[KEY] == [b"1", b"finished SUCCEEDED  "]
    assert (outbox.empty, outbox.spilled_bytes) == (True, 0)
    with pytest.raises(StateUnwritable, match="spill': is a directory"):
        SpillStore(directory=tmp_path / "spill")
    for file in files:
        file.rmdir()


def test_at_the_cap_workers_wait_exclusive_ones_first(make: Callable[..., Outbox]) -> None:
    """Reading stops at the cap and resumes when there is room; nothing is dropped."""
    outbox = make(memory_cap_bytes=0, cap_bytes=2000)
    outbox.accept(order())
    assert outbox.may_read(exclusive=True)
    outbox.log(KEY, chunk(b"x" * 1750))
    assert not outbox.may_read(exclusive=True)
    assert outbox.may_read(exclusive=False)
    assert not outbox.saturated
    outbox.log(KEY, chunk(b"x" * 200))
    assert not outbox.may_read(exclusive=False)
    assert outbox.saturated
    acknowledge(outbox, outbox.next_batch())
    assert outbox.may_read(exclusive=True)
    assert not outbox.saturated


def test_a_full_disk_holds_workers_and_loses_nothing(
    make: Callable[..., Outbox], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events stay in memory and reading stops while writes fail; it recovers by itself."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1"))

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_space)
        patch.setattr(os, "posix_fallocate", no_space)
        outbox.log(KEY, chunk(b"2"))
        outbox.log(KEY, chunk(b"3"))
        assert outbox.saturated
        clock.now += 2
        assert not outbox.may_read(exclusive=False)
    clock.now += 2
    assert outbox.may_read(exclusive=False)
    outbox.log(KEY, chunk(b"4"))
    assert deliver_all(outbox)[KEY] == [b"1", b"2", b"3", b"4"]


def test_a_disk_that_stays_full_holds_nobody_for_ever(
    make: Callable[..., Outbox], clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers resume once the kernel has taken the events kept in memory, even if the disk is still full."""
    outbox = make(memory_cap_bytes=800)
    outbox.accept(order())
    outbox.log(KEY, chunk(b"1" * 800))

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", no_space)
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    outbox.log(KEY, chunk(b"2" * 200))
    assert not outbox.may_read(exclusive=False)
    clock.now += 2
    assert not outbox.may_read(exclusive=False)
    assert outbox.saturated
    while batch := outbox.next_batch():
        acknowledge(outbox, batch)
    assert outbox.may_read(exclusive=True)
    assert not outbox.saturated
    assert caplog.text.count("cannot write to") == 1


def test_a_short_write_is_completed(make: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes an event in pieces gets all of it."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:3], offset))
    outbox.log(KEY, chunk(b"0123456789"))
    outbox.log(KEY, chunk(b"abcdefgh"))
    assert not outbox.memory_bytes
    assert deliver_all(outbox)[KEY] == [b"0123456789", b"abcdefgh"]


def test_files_of_an_earlier_life_are_removed(tmp_path: Path) -> None:
    """Files of an earlier life are removed, since no process can use them."""
    (tmp_path / "1-1.events").write_bytes(b"old")
    SpillStore(directory=tmp_path)
    assert not list(tmp_path.glob("*.events"))


def test_old_keys_are_remembered_without_their_outcomes(make: Callable[..., Outbox]) -> None:
    """A fingerprint stays of each key beyond ten thousand, and still no attempt starts twice."""
    outbox = make()
    keys = [f"run_{number}/s/1" for number in range(10_050)]
    for key in keys:
        outbox.accept(order(key))
        outbox.finished(key, finished())
    delivered = deliver_all(outbox)
    assert len(delivered) == len(keys)
    assert not any(outbox.accept(order(key)) for key in keys)
    groups = []
    while batch := outbox.next_batch():
        groups += batch
    assert [group.attempt_key for group in groups] == keys
    assert [group.attempt_key for group in groups if not group.events] == keys[:50]
    assert all(group.first_seq > 1 << 40 for group in groups[:50]), "a kernel that waits calls it a gap"


def test_the_keys_of_ended_attempts_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that runs for a year keeps as many as it says, and not more with each attempt."""
    monkeypatch.setattr(ended_attempts, "_OLDER", 100)
    book = AnswerBook()
    keys = [f"run_{number}/s/1" for number in range(10_000 + 250)]
    for key in keys:
        book.remember(key, seq=1, event=None)
    known = [book.get(key) is not None for key in keys]
    assert known == [False] * 100 + [True] * (len(keys) - 100)
    for key in keys[:50]:
        book.remember(key, seq=1, event=None)
    assert [book.get(key) is not None for key in keys] == [True] * 50 + [False] * 150 + [True] * (len(keys) - 200)


def test_a_truncated_spill_file_is_an_error(tmp_path: Path) -> None:
    """Data that somebody else cut off is never delivered as if it were whole."""
    store = SpillStore(directory=tmp_path)
    segment = store.open_segment(1)
    assert isinstance(segment, Segment)
    segment.append(json.dumps("x").encode(), lines=1)
    os.truncate(next(tmp_path.glob("*.events")), 1)
    with pytest.raises(OSError, match="truncated"):
        segment.read(1)
    segment.close()


def test_what_a_file_does_not_give_back_is_told_with_its_count(make: Callable[..., Outbox], tmp_path: Path) -> None:
    """A line stands for each chunk that cannot be read; start, outcome and what can be read are as they were."""
    outbox = make(memory_cap_bytes=0)
    outbox.accept(order())
    outbox.started(KEY, started())
    for number in range(20):
        outbox.log(KEY, replace(chunk(b"%d" % number + b"." * ((1 << 20) - 200)), line_count=number + 1))
    outbox.progress(KEY, Progress(at_us=0, done=1.0))
    outbox.finished(KEY, finished())
    first, _, third = sorted((tmp_path / "spill").glob("*.events"), key=lambda file: int(file.stem.rpartition("-")[2]))
    os.truncate(first, (1 << 20) + 100)
    os.truncate(third, 0)
    events = []
    while batch := outbox.next_batch():
        events += [open_event(event) for report in batch for event in report.events]
        acknowledge(outbox, batch)
    got = [shown(event) for event in events]
    assert len(got) == 23
    assert got[0] == b"started 7"
    assert got[-1] == b"finished SUCCEEDED  "
    assert got[1].startswith(b"0.")
    held = [event for event in got[1:21] if event[:1].isdigit()]
    lost = [decode_line(event).message for event in got[2:22] if event[:1] == b"["]
    counts = [int(message.split()[1]) - 1 for message in lost if "of the log" in message]
    assert sorted([*(int(event.partition(b".")[0]) for event in held), *counts]) == list(range(20))
    assert len(held) >= 8
    assert "lost: a report of progress" in lost[-1]
    chunks = [event for event in events if isinstance(event, LogChunk)]
    assert sum(event.lost_lines for event in chunks) == sum(count + 1 for count in counts)
    assert all("was truncated by someone else" in message for message in lost)
    assert not list((tmp_path / "spill").glob("*.events"))
