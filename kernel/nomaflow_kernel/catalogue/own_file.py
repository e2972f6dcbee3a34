"""The jobs file that the kernel itself reads. Its jobs are those of a host without a name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nomaflow_project.reading.files import JobFile, parse_toml_file
from nomaflow_project.reading.problems import Place

OWN_FILE = ""
"""The host name of the jobs in the kernel's own file."""
NO_FILE_NAMED = "no_file_named"
"""The code of the problem that the kernel was once given a jobs file, and is given none now."""
_NAME_IT = (
    "name it again in [kernel] jobs_file, or with --jobs, and restart the kernel; to remove its jobs, name a file with "
    "`jobs = []`"
)


def read_own_file(path: Path | None, before: Mapping[str, Any]) -> JobFile:
    """Return the kernel's own file as it is now; with an error if none is named.

    :param path: where it is; None if none is named
    :param before: the manifest of the file that was read last
    """
    if path is not None:
        return replace(parse_toml_file(path, environ=os.environ), main=True)
    was = Place(before["job_files"][0]["path"])
    error = was.error(NO_FILE_NAMED, "no jobs file is named any more, and this one had jobs", fix=_NAME_IT)
    return JobFile(path=was.file, error=error, main=True)


def own_manifest(file: JobFile) -> tuple[str, dict[str, Any]]:
    """Return the digest and the manifest of the kernel's own file."""
    manifest = {"host": OWN_FILE, "job_files": [file.to_json()]}
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), manifest
