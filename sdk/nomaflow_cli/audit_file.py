"""Files of ``nomaflow audit export``: a header, then a row of the audit on each line; verified without a kernel."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from nomaflow.client.values import AuditVerdictView
from nomaflow_api.audit_chain import CHAINED_FIELDS, row_hash
from nomaflow_cli.errors import CliError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HASH_LENGTH = 64
_NO_EXPORT = "name a file that nomaflow audit export has written"


class Anchor:
    """A row's number and its hash, as the kernel's log tells them: ``SEQ:HASH``.

    :raises CliError: if the text has another form
    """

    def __init__(self, text: str) -> None:
        seq, _, self.hash = text.strip().lower().partition(":")
        if not re.fullmatch("[0-9]{1,19}", seq) or len(self.hash) != _HASH_LENGTH:
            raise CliError(
                f"--anchor {text[:80]!r} is no anchor", fix="copy it from the kernel's log, audit anchor SEQ:HASH"
            )
        self.seq = int(seq)

    def problem(self, found: str | None) -> str:
        """Return what is wrong with the hash of its row; empty if nothing is.

        :param found: None if there is no such row
        """
        if found is None:
            return "the anchor's row is not there: it was removed, or is older than the oldest that is kept"
        return "" if found == self.hash else "its hash is not the anchor's: the chain was written anew"


def write_header(out: IO[str], *, store_id: str, after_seq: int, before_hash: str) -> None:
    """Write the first line of an export.

    :param store_id: identifies the history
    :param after_seq: the row before the first; 0 if that is row 1
    :param before_hash: that row's hash
    """
    write_line(out, {"nomaflow_audit": 1, "store_id": store_id, "after_seq": after_seq, "before_hash": before_hash})


def write_line(out: IO[str], line: Mapping[str, Any]) -> None:
    """Write a line: the header, or a row in the shape of docs/cli.md."""
    out.write(json.dumps(line, separators=(",", ":")) + "\n")


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """Write a new file, for its owner only; it is removed if that fails.

    :raises CliError: if it exists, or cannot be made or written
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CliError(f"{str(path)!r} exists and is not overwritten", fix="name a new file") from None
    except OSError as error:
        fix = "name a file in a directory that you may write"
        raise CliError(f"cannot write {str(path)!r}: {error.strerror}", fix=fix) from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            yield out
    except OSError as error:
        path.unlink(missing_ok=True)
        fix = "name a file on a disk with enough free space"
        raise CliError(f"cannot write {str(path)!r}: {error.strerror or error}", fix=fix) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def verify_file(path: Path, anchor: Anchor | None) -> AuditVerdictView:
    """Compute the chain in an export again and return what was found.

    :raises CliError: if the file cannot be read, or is no export
    """
    try:
        with path.open(encoding="utf-8") as lines:
            after_seq, before_hash = _header(next(lines, ""))
            return _verify(lines, after_seq, before_hash, anchor)
    except OSError as error:
        raise CliError(f"cannot read {str(path)!r}: {error.strerror}", fix=_NO_EXPORT) from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CliError(f"{str(path)!r} is no export of an audit: {error}", fix=_NO_EXPORT) from None


def _header(line: str) -> tuple[int, str]:
    """Return the number of the row before the first, and its hash."""
    found = json.loads(line)
    if not isinstance(found, dict) or found.get("nomaflow_audit") != 1:
        raise ValueError("its first line is no header")
    return int(found["after_seq"]), str(found["before_hash"])


def _verify(lines: Iterable[str], after_seq: int, before: str, anchor: Anchor | None) -> AuditVerdictView:
    seq, anchored, problem = after_seq, None, ""
    for line in lines:
        row = _row(line)
        if row is None or row["seq"] != seq + 1:
            problem = f"row {seq + 1} is missing"
            break
        if row["hash"] != row_hash(before, [row[name] for name in CHAINED_FIELDS]):
            problem = f"the hash of row {seq + 1} does not fit its content and the row before"
            break
        seq, before = seq + 1, row["hash"]
        if anchor is not None and seq == anchor.seq:
            anchored = before
    bad_seq = seq + 1 if problem else 0
    if anchor is not None and not problem:
        problem = anchor.problem(anchored)
        bad_seq = anchor.seq if problem else 0
    return AuditVerdictView(
        rows=seq - after_seq,
        first_seq=after_seq + 1,
        last_seq=seq,
        last_hash=before,
        bad_seq=bad_seq,
        problem=problem,
    )


def _row(line: str) -> dict[str, Any] | None:
    """Return the row on a line, with its time in microseconds; None if it is no row."""
    try:
        row = json.loads(line)
        at = datetime.fromisoformat(row["at"])
        return {**row, "at_us": (at - _EPOCH) // timedelta(microseconds=1), "hash": str(row["hash"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
