"""The secrets of a project: where its files refer to them, and whether each can be read. No value leaves this module.

``nomaflow secret set --in``, ``list`` and ``rotate`` are built on this.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nomaflow_api.private_file import draft_of
from nomaflow_project.reading.encryption import Undecipherable
from nomaflow_project.reading.environment import references_in, texts_in
from nomaflow_project.reading.files import SETTINGS_FILE, parse_toml_file
from nomaflow_project.reading.lines import lines_of_keys, with_lines
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.project_files import ProjectFiles
from nomaflow_project.reading.regular_files import read_regular, shown_path
from nomaflow_project.reading.sources import (
    ENCRYPTED,
    FILE,
    VARIABLE,
    EnvironmentMissing,
    ProjectSources,
    Reference,
    ReferenceMissing,
    is_secret,
)
from nomaflow_project.reading.toml_file import parse_toml

_LITERAL = re.compile(rb"""\"(?:[^"\\]|\\.)*"|'[^']*'""")
"""A text of TOML on one line."""
_TOKEN = re.compile(rb"ENC:(gAAAA[A-Za-z0-9_-]*={0,2})")


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretUse:
    """One place of a project's files that refers to a secret.

    :param file: relative to the project
    :param path: such as ``pools.default.password``
    :param line: from 1; 0 if unknown
    :param source: ``variable NAME``, ``file PATH``, ``encrypted``, or ``plugin SCHEME``
    :param state: ``ok``, ``unreadable``, or ``at each attempt`` for a plugin's
    :param key_id: of the key that encrypted it; empty for other sources
    :param problem: why it is unreadable, with the way out; empty otherwise
    """

    file: str
    path: str
    source: str
    state: str
    line: int = 0
    key_id: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotated:
    """The outcome of `rotate`.

    :param changed: file to the number of values that were encrypted again
    :param unchanged: number of values that already had the newest key
    """

    changed: Mapping[str, int]
    unchanged: int


def secret_uses(root: Path, environ: Mapping[str, str]) -> tuple[SecretUse, ...]:
    """Return every place of the project's files that refers to a secret, in order of file and place.

    In connectors.toml, every variable counts as one. The files that cannot be read come last, without a place.
    """
    files = ProjectFiles(root, environ)
    uses = [
        _use(at, text, reference, files.sources)
        for name, tree, all_secret in _trees(files)
        for at, text in texts_in(tree, Place(name))
        for reference in sorted(references_in(text, files=all_secret))
        if is_secret(reference) or all_secret
    ]
    lines = with_lines([Place(each.file, each.path).error("", "") for each in uses], root)
    return (*(replace(each, line=found.line) for each, found in zip(uses, lines, strict=True)), *_unread(files))


def _unread(files: ProjectFiles) -> Iterator[SecretUse]:
    connectors, _ = files.path_of("connectors")
    others = (parse_toml_file(connectors, name=shown_path(connectors, files.root)), *files.written)
    for error in (files.error, *(each.error for each in others)):
        if error is not None and error.code != "missing_file":
            told = f"which secrets it refers to is not known: {error.message} (nomaflow check)"
            yield SecretUse(file=error.file, path="", source="", state="unreadable", line=error.line, problem=told)


def rotate(root: Path, environ: Mapping[str, str]) -> Rotated:
    """Encrypt every encrypted value of the project's files with the newest key. The rest of a file stays as it is.

    Nothing is written unless all values can be decrypted; each file is then replaced at once.

    :raises Undecipherable: if a value cannot be decrypted, naming its file and line
    :raises OSError: if a file cannot be replaced
    """
    files = ProjectFiles(root, environ)
    ring = files.sources.keys()
    unchanged, wanted = 0, {}
    for name, *_ in _trees(files):
        path = root / name
        if not path.exists():
            continue
        body = read_regular(path)
        tokens: dict[bytes, bytes] = {}
        for match in _TOKEN.finditer(body):
            line = body.count(b"\n", 0, match.start()) + 1
            try:
                value, key_id = ring.opened(match[1].decode("ascii"))
            except Undecipherable as error:
                raise Undecipherable(f"{name}:{line}: {error.problem}; nothing was changed", error.fix) from None
            if key_id == ring.ids[0]:
                unchanged += 1
            else:
                tokens[match[0]] = ring.encrypt(value).encode("ascii")
        if tokens:
            wanted[name] = (path, _replaced(body, tokens), len(tokens))
    for path, body, _ in wanted.values():
        replace_file(path, body)
    return Rotated(changed={name: count for name, (_, _, count) in wanted.items()}, unchanged=unchanged)


def encrypt_in_place(file: Path, key: str, encrypted: str) -> None:
    """Write an encrypted value over the text that a key of a TOML file has. The rest of the file stays as it is.

    :param key: place in the file, such as ``warehouse.password`` or ``pools[0].password``
    :param encrypted: as :meth:`KeyRing.encrypt` makes it
    :raises ValueError: if the key has no text there, on one line; nothing was written
    :raises OSError: if the file cannot be read or replaced
    """
    body = read_regular(file)
    texts = _texts(body)
    if key not in texts:
        named = f"; keys with a text: {', '.join(sorted(texts)[:8])}" if texts else ""
        raise ValueError(f"{file.name} has no text at {key!r}{named}")
    line = lines_of_keys(body).get(key, 0)
    lines = body.splitlines(keepends=True)
    for match in _LITERAL.finditer(lines[line - 1]) if line else ():
        at = sum(map(len, lines[: line - 1]))
        made = body[: at + match.start()] + b'"' + encrypted.encode("ascii") + b'"' + body[at + match.end() :]
        if _texts(made) == texts | {key: encrypted}:
            replace_file(file, made)
            return
    raise ValueError(f"the text of {key!r} in {file.name} is not on one line; replace it yourself")


def _texts(body: bytes) -> dict[str, str]:
    """Return the texts of a TOML file by their places; none if it is not TOML."""
    read = parse_toml(body, Place(""))
    return {} if isinstance(read, Problem) else {at.path: text for at, text in texts_in(read, Place(""))}


def _replaced(body: bytes, tokens: Mapping[bytes, bytes]) -> bytes:
    return _TOKEN.sub(lambda match: tokens.get(match[0], match[0]), body)


def replace_file(path: Path, body: bytes, *, new_mode: int = 0o600) -> None:
    """Replace a file's content at once, keeping its mode and owner.

    :param new_mode: the mode of a new file
    :raises OSError: if that is impossible
    """
    path = path.resolve()
    with draft_of(path, body) as draft:
        draft.chmod(new_mode)
        with suppress(FileNotFoundError):
            old = path.stat()
            draft.chmod(stat.S_IMODE(old.st_mode))
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(draft, old.st_uid, old.st_gid)
        draft.replace(path)


def _trees(files: ProjectFiles) -> Iterator[tuple[str, Any, bool]]:
    """Yield name and tree of each readable file, and whether a whole ``file:PATH`` is a reference in it."""
    yield SETTINGS_FILE, {name: files.settings.get(name) for name in ("host", "alerts")}, True
    connectors, _ = files.path_of("connectors")
    yield shown_path(connectors, files.root), parse_toml_file(connectors).tree, True
    for file in files.written:
        yield file.path, file.tree, False


def _use(at: Place, text: str, reference: Reference, sources: ProjectSources) -> SecretUse:
    names = {VARIABLE: f"variable {reference.rest}", FILE: f"file {reference.rest}", ENCRYPTED: "encrypted"}
    source = names.get(reference.scheme)
    use = SecretUse(file=at.file, path=at.path, source=source or f"plugin {reference.scheme}", state="ok")
    if source is None:
        return replace(use, state="at each attempt")
    try:
        if reference.scheme == ENCRYPTED:
            return replace(use, key_id=sources.keys().opened(reference.rest)[1])
        sources.value_of(reference)
    except (ReferenceMissing, Undecipherable) as error:
        if isinstance(error, EnvironmentMissing) and f"${{{reference.rest}:-" in text:
            return use  # its default counts
        return replace(use, state="unreadable", problem=f"{error.problem} ({error.fix})")
    return use
