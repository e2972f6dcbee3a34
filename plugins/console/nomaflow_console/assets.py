"""The files that browsers load: each address has the file's hash in it, so that a browser may keep it for ever."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

STATIC = Path(__file__).parent / "static"
BUNDLES: Mapping[str, tuple[str, ...]] = {
    "page-bundle.css": ("css/console.css", "css/pages.css", "css/run.css"),
    "page-bundle.js": ("js/times.js", "js/keys.js"),
    "jobs-bundle.js": ("js/held.js", "js/last_filters.js", "js/jobs.js"),
    "runs-bundle.js": ("js/held.js", "js/last_filters.js", "js/saved_views.js", "js/runs.js"),
    "job-bundle.js": ("js/held.js", "js/job.js"),
    "schedule-bundle.js": ("js/held.js", "js/last_filters.js", "js/schedule.js"),
    "activity-bundle.js": ("js/held.js", "js/last_filters.js", "js/activity.js"),
    "log-bundle.js": ("js/log_line.js", "js/log_search.js", "js/log_rows.js", "js/log_window.js", "js/log.js"),
    "live-bundle.js": ("vendor/htmx.min.js", "vendor/hx-sse.min.js", "js/live.js", "js/morph.js", "js/checks.js"),
}
"""Files that are sent as one, so that a page needs few requests."""
_FOR_EVER = "public, max-age=31536000, immutable"
_TEXT = ("text/", "image/svg")
_COMMENTS = re.compile(rb"^[ \t]*//[^\n]*\n|(?<=;) //[^\n]*|/\*\*.*?\*/[ \t]*|^[ \t]+", re.MULTILINE | re.DOTALL)
"""What a browser does not need: comments, types, and indentation. No text of ours begins like these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asset:
    """One file as it is sent; ``packed`` is empty if that would not make it smaller."""

    digest: str
    body: bytes
    packed: bytes
    media_type: str


@cache
def _load(path: str) -> _Asset:
    """Return a file of ``static``, or a bundle.

    :raises FileNotFoundError: if there is no such file
    """
    names = BUNDLES.get(path, (path,))
    body = b"\n".join(_read(name) for name in names)
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    packed = gzip.compress(body, mtime=0) if media_type.startswith(_TEXT) else b""
    return _Asset(digest=hashlib.sha256(body).hexdigest()[:12], body=body, packed=packed, media_type=media_type)


def _read(name: str) -> bytes:
    """Return a file; a script of ours without its comments, which are a quarter of it."""
    body = (STATIC / name).read_bytes()
    return _COMMENTS.sub(b"", body) if name.startswith("js/") else body


def asset(path: str) -> str:
    """Return the address of a file in ``static``, or of a bundle.

    :raises FileNotFoundError: if there is no such file
    """
    return f"/static/{_load(path).digest}/{path}"


@cache
def _known() -> frozenset[str]:
    """Return the paths of all files and bundles: nothing else is ever read."""
    return frozenset({*BUNDLES, *(str(file.relative_to(STATIC)) for file in STATIC.rglob("*") if file.is_file())})


async def serve_asset(request: Request) -> Response:
    """Return the file of an address that :func:`asset` has made."""
    path = request.path_params["path"]
    if path not in _known() or asset(path) != request.url.path:
        return PlainTextResponse("no such file\n", status_code=404)
    found = _load(path)
    packs = bool(found.packed) and "gzip" in request.headers.get("accept-encoding", "")
    headers = {"cache-control": _FOR_EVER, "vary": "accept-encoding"}
    if packs:
        headers["content-encoding"] = "gzip"
    return Response(found.packed if packs else found.body, headers=headers, media_type=found.media_type)
