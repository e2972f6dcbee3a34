"""Frames over socket pairs."""

from __future__ import annotations

import os
import socket

import pytest

from nomaflow_host.channel.frames import FrameError, FrameSocket
from processes import open_files


@pytest.fixture
def pair() -> tuple[FrameSocket, FrameSocket]:
    """Two ends of one connection."""
    here, there = socket.socketpair()
    ends = FrameSocket(here), FrameSocket(there, takes_fds=True)
    yield ends
    for end in ends:
        end.close()


def test_frames_arrive_in_order(pair: tuple[FrameSocket, FrameSocket]) -> None:
    """Frames come whole and in order, whatever text they hold."""
    for number in range(100):
        pair[0].send({"is": "n", "number": number, "text": "é\udcff\n" * 10})
    frames = pair[1].receive()
    assert [frame.message["number"] for frame in frames] == list(range(100))
    assert frames[0].message["text"] == "é\udcff\n" * 10


def test_a_frame_larger_than_the_socket_waits(pair: tuple[FrameSocket, FrameSocket]) -> None:
    """Data that the socket cannot take is kept, and sent as the other side reads."""
    letter = b"y" * 3_000_000
    pair[0].send({"is": "big", "body": "x" * 3_000_000}, letter=letter)
    assert pair[0].pending
    while not (frames := pair[1].receive()):
        pair[0].flush()
    assert not pair[0].pending
    assert frames[0].letter == letter


def test_descriptors_ride_with_their_frame(pair: tuple[FrameSocket, FrameSocket]) -> None:
    """Each frame gets its own descriptors, of which the sender keeps none, and an unwanted frame closes them."""
    before = len(open_files())
    reading, writing = os.pipe()
    pair[0].send({"is": "none"})
    pair[0].send({"is": "one"}, [os.dup(writing)])
    pair[0].send({"is": "two"}, [reading, writing])
    frames = []
    while len(frames) < 3:
        frames += pair[1].receive()
    assert [len(frame.fds) for frame in frames] == [0, 1, 2]
    os.write(frames[1].fds[0], b"hello")
    assert os.read(frames[2].fds[0], 5) == b"hello"
    assert not os.get_inheritable(frames[1].fds[0])
    for frame in frames:
        frame.close()
    assert len(open_files()) == before


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x02\xff\xff\xff\xff{}",
        b"\0\0\0\x02\0\0\0\0{]",
        b"\0\0\0\x01\0\0\0\0[",
        b"\0\0\0\x02\0\0\0\0[]",
        b"\0\0\0\x03\0\0\0\0{}]",
        b'\0\0\0\x0b\0\0\0\0{"fds": 99}',
        b"\0\0\x27\x10\0\0\0\0" + b"[" * 10_000,
    ],
)
def test_rubbish_is_refused(rubbish: bytes) -> None:
    """A length beyond the bound, broken or too deep JSON, no object, and descriptors that never came are errors."""
    here, there = socket.socketpair()
    link = FrameSocket(there)
    with here:
        here.sendall(rubbish)
        with pytest.raises(FrameError):
            link.receive()
    link.close()


def test_a_letter_rides_along_unread(pair: tuple[FrameSocket, FrameSocket]) -> None:
    """Its bytes arrive as they were, beside the message that they belong to."""
    letter = bytes(range(256))
    pair[0].send({"n": 1}, letter=letter)
    pair[0].queue({"n": 2})
    pair[0].queue({"n": 3}, letter=b"x")
    pair[0].flush()
    told = [(frame.message["n"], frame.letter) for frame in pair[1].receive()]
    assert told == [(1, letter), (2, b""), (3, b"x")]


def test_the_end_is_noticed(pair: tuple[FrameSocket, FrameSocket]) -> None:
    """Reading reports the end after the other side has closed, and sending does nothing."""
    pair[0].close()
    assert pair[1].receive() == []
    assert pair[1].ended
    pair[1].send({"is": "into the void"})
    assert not pair[1].pending
