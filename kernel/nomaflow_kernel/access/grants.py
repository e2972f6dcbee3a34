"""Grants: a verb and the scope it is given for. Roles are names for sets of verbs."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from msgspec import Struct

from nomaflow_project.models.roles import BUILT_IN_ROLES, GrantError, split_grant, split_scope


class Verb(enum.StrEnum):
    """The act that a grant allows."""

    READ = "read"
    """See jobs, runs, their states and reasons, and hosts."""
    LOGS = "logs"
    """See logs, params and extras."""
    TRIGGER = "trigger"
    """Start runs, and replay one's own."""
    CANCEL = "cancel"
    """Stop runs."""
    OPERATE = "operate"
    """Pause, resume, reload, and replay the runs of others."""
    LAUNCH = "launch"
    """Let single instances of a host join, and declare that one has ended. Whoever may let one join can pose as one."""
    ADMIN = "admin"
    """Forget hosts, issue and withdraw credentials, read the audit."""


class Target(Struct, frozen=True, kw_only=True):
    """The thing that a call is about: a job or its run, a host, or neither.

    :param host: the host itself, or the one that runs the job
    :param tags: the job's tags
    """

    job_id: str = ""
    host: str = ""
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"job:{self.job_id}" if self.job_id else f"host:{self.host}" if self.host else "*"


EVERYTHING = Target()
"""The target of a call that is about no single job or host. Only the scope ``*`` covers it."""


class Scope(Struct, frozen=True):
    """The part of a kernel that a grant is for.

    :param kind: ``*``, ``job``, ``prefix`` (of job ids), ``host`` or ``tag``
    """

    kind: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``*``, ``job:ID``, ``job:PREFIX*``, ``host:NAME`` or ``tag:TAG``.

        :raises GrantError: if it is none of them
        """
        return cls(*split_scope(text))

    def contains(self, other: Scope) -> bool:
        """Return whether this scope covers whatever the other one covers."""
        within = self.kind == "prefix" and other.kind in ("job", "prefix") and other.name.startswith(self.name)
        return self.kind == "*" or self == other or within

    def covers(self, target: Target) -> bool:
        """Return whether a target lies in this scope."""
        return (
            self.kind == "*"
            or (self.kind == "job" and target.job_id == self.name)
            or (self.kind == "prefix" and target.job_id.startswith(self.name))
            or (self.kind == "host" and target.host == self.name)
            or (self.kind == "tag" and self.name in target.tags)
        )

    def __str__(self) -> str:
        if self.kind == "*":
            return "*"
        return f"job:{self.name}*" if self.kind == "prefix" else f"{self.kind}:{self.name}"


class Grant(Struct, frozen=True):
    """A verb, allowed within a scope."""

    verb: Verb
    scope: Scope

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Read ``VERB SCOPE``, such as ``trigger job:reports.*``.

        :raises GrantError: if it is malformed
        """
        verb, scope = split_grant(text)
        return cls(Verb(verb), Scope(*scope))

    def __str__(self) -> str:
        return f"{self.verb} {self.scope}"


ROLES: Mapping[str, tuple[Verb, ...]] = {name: tuple(map(Verb, verbs)) for name, verbs in BUILT_IN_ROLES.items()}
"""The roles that need no configuration. A host's certificate gives no verb: it proves a name."""


def grants_of_role(text: str, more: Mapping[str, Iterable[str]] | None = None) -> tuple[Grant, ...]:
    """Return the grants of ``ROLE`` or ``ROLE SCOPE``.

    :param more: roles of the configuration → their grants as texts; such a role takes no scope
    :raises GrantError: if there is no such role, or one of its grants is malformed
    """
    name, _, scope = text.strip().partition(" ")
    if more is not None and name in more:
        if scope:
            raise GrantError(f"the role {name!r} has scopes of its own; give it without {scope.strip()[:80]!r}")
        return tuple(map(Grant.parse, more[name]))
    if name not in ROLES:
        known = ", ".join(sorted({*ROLES, *(more or ())}))
        raise GrantError(f"there is no role {name[:64]!r}; expected one of {known}")
    return tuple(Grant(verb, Scope.parse(scope.strip() or "*")) for verb in ROLES[name])
