"""The file of withdrawals: when credentials ended before their time, whatever a restored store says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nomaflow_api.private_file import sync, write_private
from nomaflow_kernel.domain.errors import FileUnusable


class WithdrawnFile:
    """Lines ``ID TIME END``: a token or certificate, the time after which it is no longer good, and its own end.

    Times are microseconds since 1970. It holds no secret. A line is needed until the credential's own end: after that
    no backup holds it as good.

    :param path: made at the first withdrawal, readable by its owner only
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        """Return the id and the time of each withdrawal.

        :raises FileUnusable: if the file exists and cannot be read
        """
        try:
            lines = self._path.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            what = f"cannot read {str(self._path)!r}, which says what is withdrawn whatever a restored history says"
            raise FileUnusable(what, error, fix="let the kernel's user read and write it") from None
        found: dict[str, int] = {}
        for line in lines:
            name, time, *_ = (*line.split(" "), "", "")
            if name and time.isdecimal():
                found[name] = min(int(time), found.get(name, int(time)))
        return found

    def add(self, ends: Mapping[str, int], at_us: int) -> None:
        """Remember withdrawals; durable when this returns.

        :param ends: names of credentials → the end that each had
        :raises FileUnusable: if the file cannot be written
        """
        # A line break first: a loss of power may have cut off the line before.
        text = "".join(f"\n{name} {at_us} {end}" for name, end in ends.items())
        if not text:
            return
        try:
            number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(number, "ab") as file:
                file.write(f"{text}\n".encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            sync(self._path.parent)  # it may be new
        except OSError as error:
            what = (
                f"it is withdrawn, but a restore of the history would bring it back: cannot write {str(self._path)!r}"
            )
            raise FileUnusable(what, error, fix="correct that, and withdraw it again") from None

    def drop(self, now_us: int) -> None:
        """Drop the lines of credentials that would have ended by themselves.

        :raises OSError: if the file cannot be read or replaced; it is then unchanged
        """
        if not self._path.exists():
            return
        lines = self._path.read_text("ascii", "replace").splitlines()
        kept = [line for line in lines if line and not _over(line, now_us)]
        if len(kept) < sum(map(bool, lines)):
            write_private(self._path, "".join(f"\n{line}" for line in kept).encode("ascii", "replace"))


def _over(line: str, now_us: int) -> bool:
    end = line.split(" ")[-1]
    return line.count(" ") == 2 and end.isdecimal() and int(end) < now_us
