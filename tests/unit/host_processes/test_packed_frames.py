"""Packed frames over a socket pair."""

from __future__ import annotations

import enum
import math
import socket
from typing import Any

import pytest

from nomaflow_host.channel.frames import FrameError
from nomaflow_host.channel.packed_frames import PackedFrameSocket


class _Word(enum.StrEnum):
    DONE = "SUCCEEDED"


class _Text(str):
    """A text of an author's class."""


@pytest.mark.parametrize(
    "value",
    ["é\n", "\udcff.csv", _Word.DONE, _Text("x"), math.inf, 0.1, -(2**63), 2**100, None, True, [{"a": [1]}]],
)
def test_what_is_sent_arrives_as_it_was(value: Any) -> None:
    """Each value arrives as JSON would bring it, also those that msgpack cannot hold."""
    here, there = (PackedFrameSocket(end) for end in socket.socketpair())
    here.send({"is": "told", "value": value}, letter=b"sealed")
    (frame,) = there.receive()
    assert frame == ({"is": "told", "value": value}, b"sealed", ())
    here.close()
    there.close()


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\xc1", b"\x91\x01", b"\x80\x80", b"\x81\xa2is", b"\x81\xa3fds\x63", b"{]", b"\x91" * 10_000],
)
def test_what_is_no_object_is_refused(rubbish: bytes) -> None:
    """No message, a broken one, an array, two, a part of one, missing descriptors and a deep one are errors."""
    here, there = socket.socketpair()
    link = PackedFrameSocket(there)
    with here:
        here.sendall(len(rubbish).to_bytes(4) + bytes(4) + rubbish)
        with pytest.raises(FrameError):
            link.receive()
    link.close()
