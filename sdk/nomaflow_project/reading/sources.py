"""Sources of the values of references: variables, files and encrypted texts.

What reads them here may also be told them: a worker gets the values of its attempt from the host's main process.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from nomaflow_api.credential_signs import names_credential
from nomaflow_project.reading.encryption import KeyRing, NoKeys, Undecipherable, find_keys
from nomaflow_project.reading.regular_files import detour_reason, private_reason, read_regular, reason_of

MISSING_SECRET = "missing_secret"  # noqa: S105 - the code of a problem
_PATH_FIX = "correct the path, which is relative to the project's folder"
MAX_VALUE_BYTES = 64 * 1024
"""The maximum size of a file that holds a value."""

VARIABLE, FILE, ENCRYPTED = "", "file", "ENC"
"""The schemes that are built in; all others belong to plugins."""


class Reference(NamedTuple):
    """A reference in a text.

    :ivar scheme: `VARIABLE`, `FILE`, `ENCRYPTED`, or that of a plugin, such as ``vault``
    :ivar rest: the variable, the path, the encrypted text without ``ENC:``, or what the plugin understands
    """

    scheme: str
    rest: str

    @property
    def shown(self) -> str:
        """The reference as messages name it. An encrypted text is not worth quoting."""
        if self.scheme == ENCRYPTED:
            return "the encrypted value (ENC:)"
        return f"${{{self.scheme}:{self.rest}}}" if self.scheme else f"${{{self.rest}}}"


class ReferenceMissing(LookupError):
    """Raised when a reference has no value.

    :ivar code: of the problem in a file
    :ivar reason_code: of an attempt that needs the value
    :ivar path: place of the value, such as ``op_kwargs.url``; may be empty
    :ivar problem: one sentence without the place, and without any value
    :ivar fix: the way out
    """

    code: str = "unreadable_secret"
    reason_code = "secret_unreadable"

    def __init__(self, problem: str, *, fix: str, path: str = "") -> None:
        """Take the problem, the way out and the place."""
        self.problem = problem
        self.fix = fix
        self.path = path
        super().__init__(f"{path}: {problem} ({fix})" if path else f"{problem} ({fix})")

    def at(self, path: str) -> ReferenceMissing:
        """Return the same error of a value at a place."""
        return type(self)(self.problem, fix=self.fix, path=path)


class EnvironmentMissing(ReferenceMissing):
    """Raised when a variable has no value."""

    code: str = "unset_variable"
    reason_code = "environment_missing"


class SecretUnreadable(ReferenceMissing):
    """Raised when a file, an encrypted text or a plugin's reference gives no value."""


class SecretMissing(SecretUnreadable):
    """Raised when a secret's file or the keys are not there, as on a machine where the host does not run."""

    code: str = "missing_secret"


class VariableUnreadable(SecretUnreadable):
    """Raised when a variable is not set, and a file that may set it cannot be read: no default counts in its place."""

    code: str = "unset_variable"


class ValueSource(Protocol):
    """A source of the values of references."""

    @property
    def whole_files(self) -> bool:
        """True if a text that is ``file:PATH`` as a whole is a reference too."""

    def value_of(self, reference: Reference) -> str:
        """Return the value.

        :raises ReferenceMissing: if there is none
        """


@dataclass(frozen=True, slots=True)
class VariablesOnly:
    """The variables of a process, where nothing else is allowed: what is resolved there is published.

    :param unread: which file may set further variables, and why it does not: ``'vars.env' …``; empty for none
    """

    environ: Mapping[str, str]
    whole_files: bool = False
    unread: str = ""

    def value_of(self, reference: Reference) -> str:
        """Return a variable's value. A plugin's reference stays as written; a file or encrypted text is refused.

        :raises ReferenceMissing: as `ValueSource.value_of`
        """
        if reference.scheme == VARIABLE:
            return _variable(reference.rest, self.environ, unread=self.unread)
        if reference.scheme not in (FILE, ENCRYPTED):
            return reference.shown
        raise SecretUnreadable(
            f"{reference.shown} cannot stand here: this value is not kept secret",
            fix="secrets stand in connectors.toml, [host], params, op_kwargs and fields of contributed step types",
        )


@dataclass(frozen=True, slots=True)
class NotedSource:
    """A source that notes the secrets it gives, and puts a placeholder where a plugin's reference stands.

    :ivar secrets: the values of all references but variables whose names do not say that they are credentials
    :ivar deferred: placeholder to reference; an attempt that needs one has it replaced
    """

    source: ValueSource
    secrets: set[str] = field(default_factory=set, repr=False)
    deferred: dict[str, Reference] = field(default_factory=dict)

    @property
    def whole_files(self) -> bool:
        """The setting of the source."""
        return self.source.whole_files

    def value_of(self, reference: Reference) -> str:
        """Return the source's value, or a placeholder of letters and digits, which may stand in a URL.

        :raises ReferenceMissing: as `ValueSource.value_of`
        """
        if reference.scheme not in (VARIABLE, FILE, ENCRYPTED):
            placeholder = "later" + hashlib.sha256(repr(reference).encode()).hexdigest()[:32]
            self.deferred[placeholder] = reference
            return placeholder
        value = self.source.value_of(reference)
        if is_secret(reference):
            self.secrets.add(value)
        return value


def is_secret(reference: Reference) -> bool:
    """Return whether the value of a reference is a secret: always, except for a variable that is not named like one."""
    return reference.scheme != VARIABLE or names_credential(reference.rest.removesuffix("_FILE"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectSources:
    """The sources of one project, as its host's main process reads them.

    :param environ: the variables
    :param root: the project's folder; paths of files are relative to it
    :param keys: returns the keys of encrypted texts; called at the first one
    :param whole_files: see `ValueSource`
    :param unread: as in `VariablesOnly`
    """

    environ: Mapping[str, str] = field(repr=False)
    root: Path
    keys: Callable[[], KeyRing]
    whole_files: bool = False
    unread: str = ""

    @classmethod
    def of(
        cls, root: Path, *, environ: Mapping[str, str], key_file: str = "", whole_files: bool = False
    ) -> ProjectSources:
        """Return the sources of a project; its keys are read once, at the first encrypted text.

        :param key_file: ``[host] secret_key_file``, with its variables resolved; empty for none
        """
        keys = functools.cache(lambda: find_keys(root, key_file, environ))
        return cls(environ=environ, root=root, keys=keys, whole_files=whole_files)

    def value_of(self, reference: Reference) -> str:
        """Return the value of a variable, a file or an encrypted text.

        :raises ReferenceMissing: as `ValueSource.value_of`; always for a plugin's reference
        """
        match reference.scheme:
            case "":
                return _variable(reference.rest, self.environ, unread=self.unread)
            case "file":
                return _secret_file(self.root, reference.rest)
            case "ENC":
                try:
                    return self.keys().decrypt(reference.rest)
                except Undecipherable as error:
                    kind = SecretMissing if isinstance(error, NoKeys) else SecretUnreadable
                    raise kind(error.problem, fix=error.fix) from None
        raise SecretUnreadable(
            f"{reference.shown} is a plugin's reference, which is resolved for each attempt and cannot stand here",
            fix=f"write $${{{reference.scheme}:…}} for a literal text",
        )


def _variable(name: str, environ: Mapping[str, str], *, unread: str = "") -> str:
    """Return the value of a variable, or if that is not set or empty, the content of the file that NAME_FILE names.

    :param unread: as in `VariablesOnly`

    :raises EnvironmentMissing: if there is neither
    :raises VariableUnreadable: if the file cannot be read, or there is neither, and *unread* may set it
    """
    value, file = environ.get(name), environ.get(f"{name}_FILE")
    if value or (value is not None and not file):
        return value
    if not file:
        problem = f"the environment variable {name!r} is not set"
        if unread:
            problem += f", and {unread}"
            raise VariableUnreadable(problem, fix=f"correct that file, or set {name} for the host")
        raise EnvironmentMissing(problem, fix=f"set it for the host, or write ${{{name}:-default}}")
    try:
        if not os.path.isabs(file):
            raise OSError(errno.EINVAL, "its path must be absolute")
        return _content(read_regular(file, limit=MAX_VALUE_BYTES))
    except OSError as error:
        why = f"({file!r}) cannot be read: {reason_of(error)}"
    except UnicodeDecodeError:
        why = f"({file!r}) is not UTF-8 text"
    raise VariableUnreadable(
        f"the environment variable {name!r} is not set, and the file of {name}_FILE {why}",
        fix=f"make the file readable for the host, or set {name} and not {name}_FILE",
    )


def _secret_file(root: Path, shown: str) -> str:
    """Return the text of a file that holds one secret.

    :param shown: its path, relative to the root

    :raises SecretUnreadable: if it cannot be read, is not regular, too large, or open to others
    """
    path = root / shown
    try:
        if detour := detour_reason(path, owner=root.stat().st_uid):
            raise PermissionError(errno.EPERM, detour)
        return _content(read_regular(path, limit=MAX_VALUE_BYTES, accept=private_reason))
    except UnicodeDecodeError:
        why, fix = "is not UTF-8 text", "save it as UTF-8"
    except FileNotFoundError:
        raise SecretMissing(f"there is no secret file {shown!r}", fix=f"{_PATH_FIX}, or create it") from None
    except PermissionError as error:
        why = f"cannot be read: {reason_of(error)}"
        fix = "chmod 600 it for the host's user, in a folder that only it or root may change"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not a path"
        why, fix = f"cannot be read: {reason.lower()}", _PATH_FIX
    raise SecretUnreadable(f"the secret file {shown!r} {why}", fix=fix)


def _content(body: bytes) -> str:
    """Return a file's text without its last newline."""
    return body.decode("utf-8").removesuffix("\n").removesuffix("\r")
