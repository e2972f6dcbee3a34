"""Unpacking a manifest from the wire: compressed, size-limited, and identified by its digest."""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Any

from nomaflow_api.bounds import MANIFEST_BYTES, MANIFEST_VALUES
from nomaflow_api.v1.lossless_json import ValueCodecError, loads_plain
from nomaflow_kernel.domain.errors import BadRequest
from nomaflow_project.jobs.manifest import ManifestError, check_manifest

_FIELD = "manifest_json_zlib"
_AROUND_JOB = 5
"""Levels around a job, which has as many as any value: the manifest, its files, one of them, its tree, the jobs."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def open_manifest(packed: bytes, *, digest: str, host: str) -> tuple[dict[str, Any], int]:
    """Return the manifest that ``packed`` holds in zlib's format, and its bytes.

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
    values = sum(map(body.count, (b",", b"[", b"{")))  # at least as many as there are, and counted at once
    if values > MANIFEST_VALUES:
        raise BadRequest(
            f"the manifest of host {host!r} has about {values:,} values, expected at most {MANIFEST_VALUES:,}; "
            "give the host fewer jobs or callables",
            field=_FIELD,
        )
    try:
        manifest = loads_plain(body.decode("utf-8"), path="manifest", around=_AROUND_JOB)
    except (UnicodeDecodeError, ValueCodecError) as error:
        raise BadRequest(f"the manifest cannot be read: {error}", field=_FIELD) from None
    if not isinstance(manifest, dict):
        raise BadRequest(f"the manifest is a JSON {type(manifest).__name__}, expected an object", field=_FIELD)
    if manifest.get("host") != host:
        raise BadRequest(
            f"the manifest is of host {str(manifest.get('host'))[:80]!r}, expected {host!r} as in the session",
            field=_FIELD,
        )
    try:
        check_manifest(manifest)
    except ManifestError as error:
        raise BadRequest(str(error), field=_FIELD) from None
    return manifest, len(body)


def _unpack(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(packed, MANIFEST_BYTES)
    except zlib.error as error:
        raise BadRequest(f"the manifest is not in zlib's format: {error}", field=_FIELD) from None
    if unpacker.unconsumed_tail:
        raise BadRequest(
            f"the manifest has more than {MANIFEST_BYTES:,} bytes unpacked; give the host fewer callables",
            field=_FIELD,
        )
    if not unpacker.eof:
        raise BadRequest("the manifest ends early; send it whole", field=_FIELD)
    return body
