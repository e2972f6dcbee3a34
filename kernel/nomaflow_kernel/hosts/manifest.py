"""Unpacking a manifest from the wire: compressed, size-limited, and identified by its digest."""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Any

from nomaflow_api.v1.values import ValueCodecError, loads_plain
from nomaflow_kernel.domain.errors import BadRequest

__all__ = ["MAX_MANIFEST_BYTES", "open_manifest"]

MAX_MANIFEST_BYTES = 16 * 1024 * 1024
"""The largest manifest, unpacked."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def open_manifest(packed: bytes, *, digest: str, host: str) -> dict[str, Any]:
    """Return the manifest that ``packed`` holds in zlib's format.

    :param digest: the digest given by the sender; verified
    :param host: the name of the sender; the manifest must be of that host
    :raises BadRequest: if it is malformed, too large, not what the digest names, or another host's
    """
    if not _DIGEST.fullmatch(digest):
        raise BadRequest(f"digest is {digest[:80]!r}, expected 'sha256:' and 64 hex digits", field="digest")
    body = _unpack(packed)
    actual = "sha256:" + hashlib.sha256(body).hexdigest()
    if actual != digest:
        raise BadRequest(f"the manifest's digest is {actual}, expected {digest} as announced", field="digest")
    try:
        manifest = loads_plain(body.decode("utf-8"), path="manifest")
    except (UnicodeDecodeError, ValueCodecError) as error:
        raise BadRequest(f"the manifest cannot be read: {error}", field="manifest_json_zlib") from None
    if not isinstance(manifest, dict):
        raise BadRequest(
            f"the manifest is a JSON {type(manifest).__name__}, expected an object", field="manifest_json_zlib"
        )
    if manifest.get("host") != host:
        raise BadRequest(
            f"the manifest is of host {manifest.get('host')!r}, expected {host!r} as in the session",
            field="manifest_json_zlib",
        )
    return manifest


def _unpack(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(packed, MAX_MANIFEST_BYTES)
    except zlib.error as error:
        raise BadRequest(f"the manifest is not in zlib's format: {error}", field="manifest_json_zlib") from None
    if unpacker.unconsumed_tail:
        raise BadRequest(
            f"the manifest has more than {MAX_MANIFEST_BYTES} bytes unpacked; give the host fewer callables",
            field="manifest_json_zlib",
        )
    if not unpacker.eof:
        raise BadRequest("the manifest ends early; send it whole", field="manifest_json_zlib")
    return body
