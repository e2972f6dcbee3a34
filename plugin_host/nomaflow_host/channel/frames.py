"""Frames between the processes of a host: JSON objects over a socket pair, with a letter and file descriptors.

A frame is two lengths of four bytes each, big-endian, a JSON object in ASCII, and a sealed letter, which may be empty.
Between a host's main process and its workers the object is packed instead, see `packed_frames`.
Descriptors ride along by SCM_RIGHTS with the first byte of their frame. Nothing here waits for a socket: data that
cannot be written yet stays queued for `flush`.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_FDS = 16
_LENGTHS = struct.Struct("!II")
_READ_BYTES = 256 * 1024
_JOINED_BYTES = 64 * 1024
_decode = json.JSONDecoder().raw_decode  # decode would look for blanks around, and takes twice as long
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class FrameError(Exception):
    """Raised when the other side sends an invalid frame. The connection cannot be used any more."""


class Frame(NamedTuple):
    """One received message. The caller owns its descriptors."""

    message: dict[str, Any]
    letter: bytes = b""
    fds: tuple[int, ...] = ()

    def close(self) -> None:
        """Close the descriptors of an unused frame."""
        for fd in self.fds:
            os.close(fd)


class FrameSocket:
    """One end of a connection. Not for use by several threads.

    :param sock: a connected Unix stream socket; owned from now on, made non-blocking
    :param takes_fds: whether to take descriptors; otherwise the system closes those that code on the other side sends
    :ivar ended: True once the other side is gone
    :ivar caught_up: True if the last `receive` found nothing to read, False if there may be more
    """

    def __init__(self, sock: socket.socket, *, takes_fds: bool = False) -> None:
        sock.settimeout(0)
        self._ancillary_bytes = socket.CMSG_SPACE(MAX_FDS * 4) if takes_fds else 0
        self._sock = sock
        self._out: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._in = bytearray()
        self._fds: deque[int] = deque()
        self.ended = False
        self.caught_up = False

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once closed."""
        return self._sock.fileno()

    @property
    def pending(self) -> bool:
        """True while data waits to be written."""
        return bool(self._out)

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = (), letter: bytes = b"") -> None:
        """Queue a frame and write what can be written now.

        The descriptors are owned from now on. Nothing is raised if the other side is gone: `ended` becomes True.
        """
        self.queue(message, fds, letter)
        self.flush()

    def queue(self, message: Mapping[str, Any], fds: Sequence[int] = (), letter: bytes = b"") -> None:
        """Queue a frame for the next `flush`, which writes the whole queue at once."""
        body = self._encoded({**message, "fds": len(fds)} if fds else message)
        self._out.append((memoryview(_LENGTHS.pack(len(body), len(letter)) + body + letter), tuple(fds)))

    def flush(self) -> bool:
        """Write what can be written now; return True once the queue is empty."""
        while self._out and not self.ended:
            data, fds = self._next_block()
            try:
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
            except BlockingIOError:
                return False
            except OSError:
                self.ended = True
                break
            for fd in fds:
                os.close(fd)
            if sent < len(data):
                self._out[0] = (data[sent:], ())
            else:
                self._out.popleft()
        if self.ended:
            self._drop_queue()
        return True

    def flush_all(self) -> None:
        """Write everything and wait for the other side. For processes that have nothing else to do."""
        while not self.flush():
            select.select([], [self._sock], [])

    def receive(self) -> list[Frame]:
        """Return the frames that have arrived, without waiting; sets `ended` at the end of the stream.

        :raises FrameError: if the bytes are not frames
        """
        self._read()
        frames = []
        while (frame := self._next_frame()) is not None:
            frames.append(frame)
        return frames

    def close(self) -> None:
        """Close the connection and every descriptor still in transit. May be called twice."""
        self._drop_queue()
        while self._fds:
            os.close(self._fds.popleft())
        self._sock.close()
        self.ended = True

    def _encoded(self, message: Mapping[str, Any]) -> bytes:
        return _encode(message).encode("ascii")

    def _decoded(self, body: bytes) -> Any:
        """Return the message in a body.

        :raises ValueError: if it holds none, or anything else
        """
        message, end = _decode(body.decode("ascii"))
        if end < len(body):
            raise ValueError("more than one value")
        return message

    def _next_block(self) -> tuple[memoryview, tuple[int, ...]]:
        """Return the next block to write: a frame with descriptors alone, other frames joined for one system call."""
        data, fds = self._out[0]
        if fds or len(self._out) == 1 or self._out[1][1]:
            return data, fds
        blocks: list[memoryview] = []
        size = 0
        while self._out and not self._out[0][1] and size < _JOINED_BYTES:
            block, _ = self._out.popleft()
            blocks.append(block)
            size += len(block)
        self._out.appendleft((memoryview(b"".join(blocks)), ()))
        return self._out[0]

    def _read(self) -> None:
        self.caught_up = self.ended
        if self.ended:
            return
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ_BYTES, self._ancillary_bytes, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            self.caught_up = True
            return
        except OSError:
            self.ended = self.caught_up = True
            return
        for _, _, rights in ancillary:  # nothing else comes unless it is asked for
            fds = array.array("i")
            fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
            self._fds.extend(fds)
        self._in += data
        self.ended = self.caught_up = not data

    def _next_frame(self) -> Frame | None:
        if len(self._in) < _LENGTHS.size:
            return None
        size, more = _LENGTHS.unpack_from(self._in)
        if size + more > MAX_FRAME_BYTES:
            raise FrameError(f"a frame of {size + more} bytes, at most {MAX_FRAME_BYTES} are allowed")
        middle = _LENGTHS.size + size
        if len(self._in) < middle + more:
            return None
        body, letter = bytes(self._in[_LENGTHS.size : middle]), bytes(self._in[middle : middle + more])
        del self._in[: middle + more]
        try:
            message = self._decoded(body)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"expected an object, got {body[:80]!r}") from error
        if not isinstance(message, dict):
            raise FrameError(f"expected an object, got {body[:80]!r}")
        return Frame(message=message, letter=letter, fds=self._take_fds(message.pop("fds", 0)))

    def _take_fds(self, count: object) -> tuple[int, ...]:
        if not isinstance(count, int) or count > len(self._fds):
            raise FrameError(f"a frame with {count!r} descriptors, of which {len(self._fds)} came")
        return tuple(self._fds.popleft() for _ in range(count))

    def _drop_queue(self) -> None:
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out.clear()


def first_frames(link: FrameSocket) -> list[Frame]:
    """Wait for the first frame and return it, with those that arrived with it; if there is none, end this process."""
    while not link.ended:
        select.select([link], [], [])
        if frames := link.receive():
            return frames
    os._exit(0)


def frame_pair() -> tuple[FrameSocket, socket.socket]:
    """Return one end of a new connection as a `FrameSocket`, and the other as a socket to hand to a child."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return FrameSocket(here), there
