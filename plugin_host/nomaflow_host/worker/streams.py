"""Output of ``print`` in a worker: lines of the attempt that prints, in whatever thread or task."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from nomaflow_host.worker.emitter import write_all
from nomaflow_host.worker.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer


class _Bytes(io.RawIOBase):
    """The ``.buffer`` of a stream."""

    def __init__(self, write: Callable[[str], int], fd: int) -> None:
        self._write = write
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Buffer, /) -> int:
        raw = bytes(data)
        self._write(raw.decode("utf-8", "surrogateescape"))
        return len(raw)

    def close(self) -> None:
        """Stay open: later steps print as well."""


class _AttributedStream(io.TextIOBase):
    """A text stream that writes to the current attempt's log or, outside any attempt, to the descriptor.

    :param name: the logger name of its lines, ``stdout`` or ``stderr``
    """

    def __init__(self, *, name: str, fd: int, is_detached: Callable[[], bool]) -> None:
        self._name = name
        self._fd = fd
        self._is_detached = is_detached
        self.buffer = _Bytes(self.write, fd)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # typeshed has a plain attribute
        return "surrogateescape"

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        scope = current_scope()
        if scope is None or self._is_detached():
            write_all(self._fd, text.encode("utf-8", "surrogateescape"))
        else:
            scope.printed(self._name, text)
        return len(text)

    def close(self) -> None:
        """Stay open: later steps print as well."""


class WorkerStreams:
    """The ``sys.stdout`` and ``sys.stderr`` of a worker.

    :param is_detached: returns True in a process that a callable forked, which prints to the descriptors
    """

    def __init__(self, is_detached: Callable[[], bool]) -> None:
        self._out = _AttributedStream(name="stdout", fd=1, is_detached=is_detached)
        self._err = _AttributedStream(name="stderr", fd=2, is_detached=is_detached)
        self._pipes = _identities()

    def install(self) -> None:
        """Install the streams, even if a step has installed others."""
        sys.stdout, sys.stderr = self._out, self._err

    def intact(self) -> bool:
        """Return False once a step has closed or replaced a descriptor that child processes print to."""
        return _identities() == self._pipes


def _identities() -> list[tuple[int, int]]:
    found = []
    for fd in (1, 2):
        try:
            status = os.fstat(fd)
        except OSError:
            return []
        found.append((status.st_dev, status.st_ino))
    return found
