"""The grammar of grants, ``VERB SCOPE``, and the roles that need no configuration."""

from __future__ import annotations

from collections.abc import Mapping

from nomaflow_project.reading.names import HOST_NAME, JOB_ID

VERBS = ("read", "logs", "trigger", "cancel", "operate", "launch", "admin")
"""What a grant can allow."""

BUILT_IN_ROLES: Mapping[str, tuple[str, ...]] = {
    "viewer": ("read",),
    "reader": ("read", "logs"),
    "operator": ("read", "logs", "trigger", "cancel", "operate"),
    "launcher": ("read", "launch"),
    "admin": VERBS,
}
"""The roles that every kernel has → their verbs."""

_TAG_LENGTH = 128


class GrantError(ValueError):
    """Raised when a grant, a scope or a role cannot be read; the text names it and says what was expected."""


def split_scope(text: str) -> tuple[str, str]:
    """Return kind and name of ``*``, ``job:ID``, ``job:PREFIX*``, ``host:NAME`` or ``tag:TAG``.

    The kind is ``*``, ``job``, ``prefix``, ``host`` or ``tag``.

    :raises GrantError: if it is none of them
    """
    if text == "*":
        return "*", ""
    kind, _, name = text.partition(":")
    if kind == "job" and name.endswith("*") and JOB_ID.fullmatch(name[:-1]):
        return "prefix", name[:-1]
    if (kind == "job" and JOB_ID.fullmatch(name)) or (kind == "host" and HOST_NAME.fullmatch(name)):
        return kind, name
    if kind == "tag" and 1 <= len(name) <= _TAG_LENGTH and name.isprintable():
        return kind, name
    raise GrantError(f"{text[:80]!r} is not a scope; expected *, job:ID, job:PREFIX*, host:NAME or tag:TAG")


def split_grant(text: str) -> tuple[str, tuple[str, str]]:
    """Return the verb of a grant, and kind and name of its scope.

    :raises GrantError: if it is malformed
    """
    verb, _, scope = text.strip().partition(" ")
    if verb not in VERBS:
        raise GrantError(f"{text[:80]!r} does not begin with a verb; expected one of {', '.join(VERBS)}")
    return verb, split_scope(scope.strip())
