"""``${NAME}`` and ``${NAME:-default}`` in the files of a project and in the values of its jobs.

``$${NAME}`` is a literal ``${NAME}``. As in a shell, a default also takes the place of an empty variable. If NAME is
not set but NAME_FILE is, the value is the content of the file that NAME_FILE names, without its last newline: Docker
and Kubernetes pass secrets this way.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.values import child_path
from nomaflow_project.reading.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nomaflow_project.reading.problems import Place, Problem

__all__ = [
    "STEP_KEYS",
    "UNSET_VARIABLE",
    "EnvironmentMissing",
    "Unresolved",
    "file_variables",
    "has_steps",
    "is_kept",
    "names_in",
    "resolve_environment",
    "resolve_leniently",
    "resolve_text",
    "resolve_tree",
    "unresolved_references",
]

UNSET_VARIABLE = "unset_variable"

MAX_VALUE_BYTES = 64 * 1024
"""The maximum size of a file that holds a variable's value."""

_REFERENCE = re.compile(r"\$?\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
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
    }
)
"""The keys of a step that are ours, as in `StepEntry`; all others belong to a type that a plugin contributes."""


class EnvironmentMissing(LookupError):
    """Raised when a value refers to a variable that has no value.

    :ivar name: the variable
    :ivar path: place of the value, such as ``op_kwargs.url``; may be empty
    :ivar problem: one sentence without the place
    :ivar fix: the way out
    """

    def __init__(self, name: str, path: str = "", *, unreadable: str = "") -> None:
        """Name the variable and the place.

        :param unreadable: the file of NAME_FILE and why it cannot be read; empty if neither variable is set
        """
        self.name = name
        self.path = path
        if unreadable:
            self.problem = f"the environment variable {name!r} is not set, and the file of {name}_FILE {unreadable}"
            self.fix = f"make the file readable for the host, set {name}, or write ${{{name}:-default}}"
        else:
            self.problem = f"the environment variable {name!r} is not set"
            self.fix = f"set it for the host, or write ${{{name}:-default}}"
        super().__init__(f"{path}: {self.problem} ({self.fix})" if path else f"{self.problem} ({self.fix})")


class Unresolved(str):
    """A text of a file that refers to a variable without a value, left as written.

    :ivar missing: the variable, the problem and the way out
    """

    __slots__ = ("missing",)
    missing: EnvironmentMissing

    @classmethod
    def of(cls, text: str, missing: EnvironmentMissing) -> Unresolved:
        """Return the text, marked."""
        marked = cls(text)
        marked.missing = missing
        return marked


def resolve_text(text: str, environ: Mapping[str, str], *, path: str = "") -> str:
    """Return *text* with its references resolved.

    :param path: place of the text, for the error
    :raises EnvironmentMissing: if a variable has no value and no default
    """
    if "${" not in text:
        return text

    def value_of(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        name, default = match[1], match[2]
        try:
            value = _value(name, environ, path)
        except EnvironmentMissing:
            if default is None:
                raise
            return default
        return value or default or ""

    return _REFERENCE.sub(value_of, text)


def resolve_tree(tree: Any, environ: Mapping[str, str], *, path: str = "") -> Any:
    """Return a tree of dicts and lists with the references in its texts resolved; keys stay as they are.

    :param path: the name of the tree in errors
    :raises EnvironmentMissing: as `resolve_text`, naming the place
    """
    return _resolved(tree, environ, path, resolve_text)


def resolve_leniently(tree: Any, environ: Mapping[str, str], *, path: str = "") -> Any:
    """Return the tree as `resolve_tree` does; a text whose variable has no value stays, as an `Unresolved`."""
    return _resolved(tree, environ, path, _lenient)


def is_kept(name: str, *, in_step: bool) -> bool:
    """Return whether the host resolves references below a key at each attempt, since they may be secrets.

    :param in_step: whether it is the key of a step, or of ``step_defaults``
    """
    return name in _KEPT or (in_step and name not in STEP_KEYS)


def has_steps(name: str, value: object) -> bool:
    """Return whether a key holds steps; the ``steps`` of a preset do not, they switch steps on and off."""
    return name == "step_defaults" or (name == "steps" and isinstance(value, list))


def resolve_environment(tree: Any, environ: Mapping[str, str], *, in_step: bool = False) -> Any:
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
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from unresolved_references(value, place / str(name))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from unresolved_references(value, place / index)
    elif isinstance(tree, Unresolved):
        yield place.error(UNSET_VARIABLE, tree.missing.problem, fix=tree.missing.fix)


def names_in(tree: Any) -> set[str]:
    """Return the names of all variables that a tree refers to."""
    if isinstance(tree, str):
        return {match[1] for match in _REFERENCE.finditer(tree) if not match[0].startswith("$$")}
    if isinstance(tree, dict):
        return set().union(*map(names_in, tree.values()))
    if isinstance(tree, list):
        return set().union(*map(names_in, tree))
    return set()


def file_variables(names: set[str]) -> set[str]:
    """Return the names along with the variables that may name a file for each: all reveal the values of *names*."""
    return names | {f"{name}_FILE" for name in names}


def _resolved(tree: Any, environ: Mapping[str, str], path: str, resolve: Callable[..., str]) -> Any:
    if isinstance(tree, str):
        return resolve(tree, environ, path=path)
    if isinstance(tree, dict):
        return {key: _resolved(item, environ, child_path(path, key), resolve) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_resolved(item, environ, f"{path}[{index}]", resolve) for index, item in enumerate(tree)]
    return tree


def _lenient(text: str, environ: Mapping[str, str], *, path: str) -> str:
    try:
        return resolve_text(text, environ, path=path)
    except EnvironmentMissing as error:
        return Unresolved.of(text, error)


def _value(name: str, environ: Mapping[str, str], path: str) -> str:
    """Return the value of a variable, or the content of its file.

    :raises EnvironmentMissing: if there is neither, or the file cannot be read
    """
    value = environ.get(name)
    if value is not None:
        return value
    file = environ.get(f"{name}_FILE")
    if not file:
        raise EnvironmentMissing(name, path)
    try:
        return _content(file)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise EnvironmentMissing(name, path, unreadable=f"({file!r}) cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise EnvironmentMissing(name, path, unreadable=f"({file!r}) is not UTF-8 text") from None


def _content(file: str) -> str:
    """Return the text of a file without its last newline.

    :raises OSError: if it cannot be read, is too large, is no regular file or is named by a relative path
    """
    if not os.path.isabs(file):
        raise OSError(errno.EINVAL, "its path must be absolute")
    body = read_regular(file, limit=MAX_VALUE_BYTES)
    return body.decode("utf-8").removesuffix("\n").removesuffix("\r")
