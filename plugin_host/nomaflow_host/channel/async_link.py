"""A frame socket on an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow_host.channel.frames import Frame, FrameError, FrameSocket

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

_READS_AT_ONCE = 16


class AsyncLink:
    """Reads and writes frames whenever the socket is ready.

    :param on_frame: called with each frame; an error of it about a field, such as a KeyError, ends the connection
    :param on_pause: called after all messages that arrived together were passed on
    :param on_end: called once when the other side has ended (with None) or sent an invalid frame (with the error)
    """

    def __init__(
        self,
        *,
        link: FrameSocket,
        loop: asyncio.AbstractEventLoop,
        on_frame: Callable[[Frame], None],
        on_pause: Callable[[], None] = lambda: None,
        on_end: Callable[[FrameError | None], None],
    ) -> None:
        self._link = link
        self._loop = loop
        self._on_frame = on_frame
        self._on_pause = on_pause
        self._on_end = on_end
        self._open = True
        self._writing = False
        self._flushing = False
        loop.add_reader(link.fileno(), self.read)

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = (), letter: bytes = b"") -> None:
        """Send a frame now, or as soon as there is room; once the other side is gone, only close the descriptors."""
        self._link.send(message, fds, letter)
        if self._open:
            self._write_later_if_full()

    def send_soon(self, message: Mapping[str, Any], letter: bytes = b"") -> None:
        """Send a frame together with all others of this turn of the loop, in their order."""
        if not self._open:
            return
        self._link.queue(message, letter=letter)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_turn)

    def read(self) -> None:
        """Read everything that has arrived.

        Some event loops report a peer that died with unread data of ours only once. The last messages and the end must
        therefore be read in that one call.
        """
        if not self._open:
            return
        error = None
        try:
            for _ in range(_READS_AT_ONCE):
                error = self._take()
                if error is not None or not self._open or self._link.caught_up:
                    break
            else:
                self._loop.call_soon(self.read)  # let other tasks of the loop run
        finally:
            self._on_pause()
        if self._open and (error is not None or self._link.ended):
            self.close()
            self._on_end(error)

    def close(self) -> None:
        """Close the connection. May be called twice; `on_end` is not called."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._link.fileno())
        self._loop.remove_writer(self._link.fileno())
        self._link.close()

    def _take(self) -> FrameError | None:
        try:
            for frame in self._link.receive():
                self._on_frame(frame)
        except FrameError as nonsense:
            return nonsense
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as nonsense:
            return FrameError(f"a message that lacks or confuses fields: {nonsense!r}")
        return None

    def _flush_turn(self) -> None:
        self._flushing = False
        if self._open:
            self._link.flush()
            self._write_later_if_full()

    def _write_later_if_full(self) -> None:
        if self._link.pending and not self._writing:
            self._writing = True
            self._loop.add_writer(self._link.fileno(), self._flush)

    def _flush(self) -> None:
        if self._link.flush():
            self._writing = False
            self._loop.remove_writer(self._link.fileno())
