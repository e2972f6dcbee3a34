"""References in the files of a project and in the values of its jobs: the grammar, and how a tree is resolved.

``${NAME}`` and ``${NAME:-default}`` are variables; as in a shell, a default also takes the place of an empty one. If
NAME is not set but NAME_FILE is, the value is the content of the file that it names, without its last newline: Docker
and Kubernetes pass secrets this way. If that file cannot be read, no default counts. ``${file:PATH}`` is the content of
a file, ``${ENC:…}`` a decrypted text, and ``${vault:path#field}`` whatever the plugin for ``vault:`` finds. ``$${…}``
is a literal ``${…}``.

A text that is ``ENC:`` and a Fernet token as a whole is a reference too; so is a whole ``file:PATH`` where the source
of the values says so, except for a URL (``file://…``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nomaflow_api.v1.lossless_json import child_path
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.sources import (
    ENCRYPTED,
    FILE,
    VARIABLE,
    EnvironmentMissing,
    Reference,
    ReferenceMissing,
    ValueSource,
    VariablesOnly,
)

UNSET_VARIABLE = "unset_variable"
DOUBTFUL_VALUE = "doubtful_value"

Values = Mapping[str, str] | ValueSource
"""The variables, or all sources of values."""

_REFERENCE = re.compile(
    r"\$?\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?"
    r"|(?P<scheme>ENC|[a-z][a-z0-9_]{0,31}):(?!-)(?P<rest>[^}\s][^}]*))\}"
)
_ENCRYPTED_TEXT = re.compile(r"ENC:(gAAAA[A-Za-z0-9_-]*={0,2})")
_FILE_TEXT = re.compile(r"file:(?!//)(.+)")
_KEPT = frozenset({"params", "op_kwargs"})
STEP_KEYS = frozenset(
    {
        "type",
        "name",
        "enabled",
        "callable",
        "op_kwargs",
        "target_job_id",
        "params",
        "timeout_seconds",
        "retry",
        "isolation",
        "cancel_grace_seconds",
        "resources",
        "image",
    }
)
"""The keys of a step that are ours, as in `StepDefinition`; all others belong to a type that a plugin contributes."""


class Unresolved(str):
    """A text of a file with a reference that has no value, left as written.

    :ivar missing: the problem and the way out
    """

    __slots__ = ("missing",)
    missing: ReferenceMissing

    @classmethod
    def of(cls, text: str, missing: ReferenceMissing) -> Unresolved:
        """Return the text, marked."""
        marked = cls(text)
        marked.missing = missing
        return marked


def resolve_text(text: str, values: Values, *, path: str = "") -> str:
    """Return *text* with its references resolved.

    :param path: place of the text, for the error
    :raises ReferenceMissing: if a reference has no value and no default
    """
    if "${" not in text and not text.startswith(("ENC:", "file:")):
        return text
    source = VariablesOnly(values) if isinstance(values, Mapping) else values

    def value_of(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        default = match["default"]
        try:
            value = source.value_of(_reference(match))
        except EnvironmentMissing:
            if default is None:
                raise
            return default
        return value or default or ""

    try:
        whole = _whole(text, files=source.whole_files)
        return source.value_of(whole) if whole is not None else _REFERENCE.sub(value_of, text)
    except ReferenceMissing as error:
        raise (error.at(path) if path else error) from None


def has_nested_reference(text: str) -> bool:
    """Return whether a reference stands in the default of another, where nothing resolves it."""
    found = (match for match in _REFERENCE.finditer(text) if not match[0].startswith("$$"))
    return any("${" in (match["default"] or "") for match in found)


def resolve_tree(tree: Any, values: Values, *, path: str = "") -> Any:
    """Return a tree of dicts and lists with the references in its texts resolved; keys stay as they are.

    :param path: the name of the tree in errors
    :raises ReferenceMissing: as `resolve_text`, naming the place
    """
    return _resolved(tree, values, path, resolve_text)


def resolve_leniently(tree: Any, values: Values) -> Any:
    """Return the tree as `resolve_tree` does; a text whose reference has no value stays, as an `Unresolved`."""
    return _resolved(tree, values, "", _lenient)


def is_kept(name: str, *, in_step: bool) -> bool:
    """Return whether the host resolves references below a key at each attempt, since they may be secrets.

    :param in_step: whether it is the key of a step, or of ``step_defaults``
    """
    return name in _KEPT or (in_step and name not in STEP_KEYS)


def has_steps(name: str, value: object) -> bool:
    """Return whether a key holds steps; the ``steps`` of a preset do not, they switch steps on and off."""
    return name == "step_defaults" or (name == "steps" and isinstance(value, list))


def resolve_environment(tree: Any, environ: Values, *, in_step: bool = False) -> Any:
    """Return the tree resolved leniently, except for values that the host resolves later, see `is_kept`."""
    if isinstance(tree, dict):
        return {
            name: value
            if is_kept(name, in_step=in_step)
            else resolve_environment(value, environ, in_step=has_steps(name, value))
            for name, value in tree.items()
        }
    if isinstance(tree, list):
        return [resolve_environment(value, environ, in_step=in_step) for value in tree]
    return _lenient(tree, environ, path="") if isinstance(tree, str) else tree


def unresolved_references(tree: object, place: Place) -> Iterator[Problem]:
    """Yield a problem for each reference without a value when the file was read."""
    for at, text in texts_in(tree, place):
        if isinstance(text, Unresolved):
            yield at.error(text.missing.code, text.missing.problem, fix=text.missing.fix)


def texts_in(tree: Any, at: Place) -> Iterator[tuple[Place, str]]:
    """Yield every text of a tree, with its place."""
    if isinstance(tree, str):
        yield at, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from texts_in(value, at / str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from texts_in(value, at / index)


def kept_texts(tree: Any, at: Place, *, in_step: bool = False) -> Iterator[tuple[Place, str]]:
    """Yield every text that `resolve_environment` leaves to the host, with its place."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            if is_kept(name, in_step=in_step):
                yield from texts_in(value, at / name)
            else:
                yield from kept_texts(value, at / name, in_step=has_steps(name, value))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from kept_texts(value, at / index, in_step=in_step)


def plain_texts(tree: Any) -> Iterator[str]:
    """Yield every text of a tree, in no order."""
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict | list):
            waiting += each.values() if isinstance(each, dict) else each


def names_in(tree: Any) -> set[str]:
    """Return the names of all variables that a tree refers to."""
    return {each.rest for each in references_in(tree) if each.scheme == VARIABLE}


def references_in(tree: Any, *, files: bool = False) -> set[Reference]:
    """Return all references of a tree.

    :param files: whether a whole ``file:PATH`` is one
    """
    found: set[Reference] = set()
    for text in plain_texts(tree):
        if whole := _whole(text, files=files):
            found.add(whole)
        else:
            found.update(_reference(match) for match in _REFERENCE.finditer(text) if not match[0].startswith("$$"))
    return found


def file_variables(names: set[str]) -> set[str]:
    """Return the names along with the variables that may name a file for each: all reveal the values of *names*."""
    return names | {f"{name}_FILE" for name in names}


def _reference(match: re.Match[str]) -> Reference:
    return Reference(VARIABLE, match["name"]) if match["name"] else Reference(match["scheme"], match["rest"])


def _whole(text: str, *, files: bool) -> Reference | None:
    """Return the reference that a text is as a whole, without ``${}``."""
    if match := _ENCRYPTED_TEXT.fullmatch(text):
        return Reference(ENCRYPTED, match[1])
    if files and (match := _FILE_TEXT.fullmatch(text)):
        return Reference(FILE, match[1])
    return None


def _resolved(tree: Any, values: Values, path: str, resolve: Callable[..., str]) -> Any:
    if isinstance(tree, str):
        return resolve(tree, values, path=path)
    if isinstance(tree, dict):
        return {key: _resolved(item, values, child_path(path, key), resolve) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_resolved(item, values, f"{path}[{index}]", resolve) for index, item in enumerate(tree)]
    return tree


def _lenient(text: str, values: Values, *, path: str) -> str:
    try:
        return resolve_text(text, values, path=path)
    except ReferenceMissing as error:
        return Unresolved.of(text, error)
