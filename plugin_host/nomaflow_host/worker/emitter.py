"""Writes the lines of a worker to its ring, or, in a process that a callable forked, to the shared output."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from nomaflow_api.v1.log_lines import encode_line, split_message
from nomaflow_host.attempt.masking import WorkerMasker

if TYPE_CHECKING:
    from nomaflow_host.channel.ring.writer import RingWriter

_SHORT = 16 * 1024
_LONGEST_NAME = 1024


class Emitter:
    """Writes lines to the ring of this process.

    :param writer: the worker's end of its ring
    """

    def __init__(self, *, writer: RingWriter) -> None:
        self._writer = writer
        self.masker = WorkerMasker()
        """Masks what this process must not show; set once its connectors are known."""
        self.detached = False
        """True in a process that the worker's code forked: the ring has only one writer."""
        os.register_at_fork(after_in_child=self._detach)

    def line(self, prefix: bytes, level: int, at_us: int, logger: str, message: str, flags: int = 0) -> None:
        """Write one line, in marked pieces if it is long. A name that no logger needs to have is cut.

        :param prefix: three digits, the slot of the attempt
        """
        message = self.masker.now.text(message)
        if self.detached:
            fd = 1 if level < logging.WARNING else 2  # their lines are INFO and WARNING
            write_all(fd, f"{logger}: {message}\n".encode("utf-8", "surrogateescape"))
        elif len(logger) + len(message) <= _SHORT:
            self._writer.write(prefix + encode_line(level, at_us, logger, message, flags))
        else:
            logger = logger[:_LONGEST_NAME]
            for piece, own in split_message(message, flags):
                self._writer.write(prefix + encode_line(level, at_us, logger, piece, own))

    def _detach(self) -> None:
        self.detached = True


def write_all(fd: int, data: bytes) -> None:
    """Write *data* to a blocking descriptor; drop the rest if its reader is gone."""
    view = memoryview(data)
    with contextlib.suppress(OSError):
        while view:
            view = view[os.write(fd, view) :]
