"""The chain of the audit: each row's hash covers the row and the hash before it.

The kernel's store writes it, and ``nomaflow audit verify FILE`` checks it without a kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

CHAINED_FIELDS = (
    "seq",
    "at_us",
    "principal",
    "address",
    "action",
    "target",
    "outcome",
    "note",
    "correlation",
    "count",
)
"""The fields of a row that its hash covers, in their order."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


def row_hash(before: str, row: Sequence[str | int]) -> str:
    """Return the hash of a row: SHA-256, in hexadecimal digits, over ``before``, a line feed and the row's JSON array.

    The array is in ASCII, without spaces.

    :param before: the hash of the row before; empty for row 1
    :param row: the values of ``CHAINED_FIELDS``
    """
    return hashlib.sha256(f"{before}\n{_encode(list(row))}".encode("ascii")).hexdigest()
