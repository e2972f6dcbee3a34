"""Reading the files of a project. The only module of the catalogue that touches the disk."""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nomaflow_api.v1.values import ValueCodecError, encode_tree
from nomaflow_project.reading.env_files import project_variables
from nomaflow_project.reading.environment import resolve_environment
from nomaflow_project.reading.problems import Place, Problem

__all__ = ["MAX_FILE_BYTES", "FileError", "JobFile", "ProjectFiles", "encode_file", "parse_toml_file", "read_project"]

MAX_FILE_BYTES = 1024 * 1024
"""The largest file that is read."""

_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)$")
_AT_END = " (at end of document)"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileError:
    """Why a file could not be read. Lines and columns count from 1; 0 where there is none.

    :param code: ``missing_file``, ``unreadable_file`` or ``bad_toml``
    """

    message: str
    line: int = 0
    column: int = 0
    code: str = "bad_toml"
    fix: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFile:
    """A TOML file as read: its tree in the encoding of ``nomaflow_api.v1.values``, or the error."""

    path: str
    tree: Mapping[str, Any] | None = None
    error: FileError | None = None

    @classmethod
    def from_manifest(cls, data: Mapping[str, Any]) -> Self:
        """Return one of the ``job_files`` of a manifest."""
        error = data.get("error")
        if error is None:
            return cls(path=str(data.get("path", "")), tree=data.get("tree") or {})
        read = FileError(
            message=str(error.get("message", "")),
            line=int(error.get("line") or 0),
            column=int(error.get("column") or 0),
            code=str(error.get("code") or "bad_toml"),
            fix=str(error.get("fix") or ""),
        )
        return cls(path=str(data.get("path", "")), error=read)

    def problem(self) -> Problem | None:
        """Return the error as a problem, None where the file was read."""
        if self.error is None:
            return None
        where = f"line {self.error.line}, column {self.error.column}: " if self.error.line else ""
        return Place(self.path).error(self.error.code, where + self.error.message, fix=self.error.fix)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFiles:
    """The files of a project's folder. A file that is optional and absent is None.

    :param job_files: ``jobs.toml``, then that of each folder of ``plugins/``, in order of name
    """

    root: Path
    settings: JobFile | None
    job_files: tuple[JobFile, ...]
    connectors: JobFile | None


def parse_toml_file(path: Path, *, name: str = "", environ: Mapping[str, str] | None = None) -> JobFile:
    """Read one TOML file.

    :param name: what to call it in problems; the path where empty
    :param environ: variables to resolve references with; None leaves them
    """
    shown = name or str(path)
    try:
        body = _read(path)
    except FileNotFoundError:
        return _failed(shown, "missing_file", "there is no such file")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return _failed(shown, "unreadable_file", f"cannot be read: {reason}", fix="make it a readable file")
    if len(body) > MAX_FILE_BYTES:
        return _failed(
            shown,
            "unreadable_file",
            f"is larger than {MAX_FILE_BYTES} bytes",
            fix="split it: the jobs.toml of each folder of plugins/ is read too",
        )
    return _parsed(shown, body, environ)


def _read(path: Path) -> bytes:
    """Return the first bytes of a file, one more than may be.

    :raises OSError: where it cannot be read, or is a pipe, say: that would wait for whoever writes into it
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return stream.read(MAX_FILE_BYTES + 1)


def read_project(root: Path, *, environ: Mapping[str, str] | None = None) -> ProjectFiles:
    """Read the files of a project: nomaflow.toml, jobs.toml, those of plugins/*/, and connectors.toml.

    :param environ: variables to resolve references with; None means the process's own
    """
    variables = os.environ if environ is None else environ
    settings_path = root / "nomaflow.toml"
    settings = None
    if settings_path.exists():
        settings = parse_toml_file(settings_path, name="nomaflow.toml", environ=variables)
    variables = project_variables(root, settings.tree if settings is not None else None, variables).environ
    jobs_name = _configured(settings, "jobs")
    job_files = [
        parse_toml_file(path, name=_relative(path, root), environ=variables)
        for path in sorted(root.glob("plugins/*/jobs.toml"))
    ]
    main_path = root / (jobs_name or "jobs.toml")
    if jobs_name or main_path.exists() or not job_files:
        job_files.insert(0, parse_toml_file(main_path, name=_relative(main_path, root), environ=variables))
    connectors_name = _configured(settings, "connectors")
    connectors_path = root / (connectors_name or "connectors.toml")
    connectors = None
    if connectors_name or connectors_path.exists():
        connectors = parse_toml_file(connectors_path, name=_relative(connectors_path, root), environ=variables)
    return ProjectFiles(root=root, settings=settings, job_files=tuple(job_files), connectors=connectors)


def encode_file(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parsed file in the encoding of ``nomaflow_api.v1.values``.

    A job with a value that has no such encoding, such as ``inf``, becomes ``{"id", "$error": {"path", "message"}}``, so
    that the other jobs of the file go on.

    :raises ValueCodecError: where such a value is outside the jobs
    """
    jobs = tree.get("jobs")
    if not isinstance(jobs, list):
        return dict(encode_tree(dict(tree)))
    rest = {name: value for name, value in tree.items() if name != "jobs"}
    return {**encode_tree(rest), "jobs": [_encode_job(job) for job in jobs]}


def _encode_job(job: Any) -> Any:
    try:
        return encode_tree(job)
    except ValueCodecError as error:
        job_id = job.get("id") if isinstance(job, dict) else None
        named = {"id": job_id} if isinstance(job_id, str) else {}
        return {**named, "$error": {"path": error.path, "message": error.problem}}


def _parsed(shown: str, body: bytes, environ: Mapping[str, str] | None) -> JobFile:
    try:
        tree = encode_file(tomllib.loads(body.decode("utf-8")))
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return _failed(shown, "bad_toml", "is not UTF-8 text", line=line, column=1)
    except tomllib.TOMLDecodeError as error:
        message, position = str(error), _POSITION.search(str(error))
        if position is not None:
            line, column = int(position[1]), int(position[2])
            return _failed(shown, "bad_toml", _lowered(message[: position.start()]), line=line, column=column)
        line = body.count(b"\n") + 1
        return _failed(
            shown, "bad_toml", _lowered(message.removesuffix(_AT_END)) + " at the end of the file", line=line
        )
    except (ValueCodecError, RecursionError) as error:
        problem = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return _failed(shown, "bad_toml", problem)
    except ValueError as error:  # an integer of more digits than Python reads, or a date that does not exist
        return _failed(shown, "bad_toml", _lowered(str(error)))
    return JobFile(path=shown, tree=tree if environ is None else resolve_environment(tree, environ))


def _failed(path: str, code: str, message: str, *, line: int = 0, column: int = 0, fix: str = "") -> JobFile:
    return JobFile(path=path, error=FileError(message=message, line=line, column=column, code=code, fix=fix))


def _configured(settings: JobFile | None, section: str) -> str:
    table = settings.tree.get(section) if settings is not None and settings.tree is not None else None
    value = table.get("config_path") if isinstance(table, Mapping) else None
    return value if isinstance(value, str) else ""


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
