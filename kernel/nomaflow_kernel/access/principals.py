"""Principals: the authors of calls, as their credentials prove them."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct

from nomaflow_kernel.access.grants import Grant, Scope, Target, Verb
from nomaflow_kernel.domain.errors import KernelError


class PrincipalKind(enum.StrEnum):
    """The kind of a principal, by its proof."""

    OWNER = "owner"
    """By reaching the Unix socket, whose directory only the owner can enter: may do everything."""
    USER = "user"
    """By a person's token."""
    SERVICE = "service"
    """By a program's token."""
    HOST = "host"
    """By a certificate that names a host: may attach as that host, and nothing else."""
    ANYONE = "anyone"
    """By nothing."""
    KERNEL = "kernel"
    """Not at all: it is the kernel itself, which calls nobody."""


class NotAuthenticated(KernelError):
    """Raised when a call carries no good credential. The text is the same whatever the cause."""

    reason = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__(
            "a good credential is needed: none was shown, or one that is unknown here, has expired or was withdrawn "
            "(a token goes into the metadata 'authorization: Bearer TOKEN')"
        )


_ACTS: Mapping[str, str] = {Verb.LOGS: "see the logs of", Verb.ADMIN: "administer"}
"""The verbs that are no word for an act."""


class NotPermitted(KernelError):
    """Raised when a principal lacks a grant, or may not know whether the target exists.

    :param verb: what it may not do
    :param target: what it asked for, as it named it
    :param needs: the verb that it lacks, if that is not the one above
    :param may_know: whether it may know that the target exists; else the words are the same for one that does not
    """

    reason = "PERMISSION_DENIED"

    def __init__(self, principal: Principal, verb: str, target: str, *, needs: str = "", may_know: bool = True) -> None:
        self.about = "" if verb == "call" else target
        needed = f", which needs the grant `{needs}`" if needs else ""
        or_none = "" if may_know else ", or it does not exist"
        super().__init__(
            f"{principal} may not {_ACTS.get(verb, verb)} {target[:160]}{needed}{or_none}; "
            "an administrator gives such a grant with `nomaflow token create`"
        )


class Principal(Struct, frozen=True, kw_only=True):
    """The author of a call.

    :param name: of a user, a service or a host; ``owner`` for the owner, ``anyone`` without a credential
    :param grants: what it may do; empty for the owner, who may do everything
    :param credential: id of the token or serial of the certificate; empty for the owner
    :param roles: the names that some of the grants were given by; empty for the owner
    :param instance: the id of the join string, for a host's certificate that is for one instance alone; else empty
    """

    kind: PrincipalKind
    name: str
    grants: tuple[Grant, ...] = ()
    credential: str = ""
    roles: tuple[str, ...] = ()
    instance: str = ""

    @property
    def is_owner(self) -> bool:
        """True for the owner, who may do everything."""
        return self.kind is PrincipalKind.OWNER

    def may(self, verb: Verb, target: Target) -> bool:
        """Return whether it may do something to a target."""
        return self.is_owner or any(grant.verb is verb and grant.scope.covers(target) for grant in self.grants)

    def may_all(self, verb: Verb) -> bool:
        """Return whether it may do something to everything."""
        return self.is_owner or any(grant.verb is verb and grant.scope.kind == "*" for grant in self.grants)

    def may_some(self, verb: Verb) -> bool:
        """Return whether it may do something to anything at all."""
        return self.is_owner or any(grant.verb is verb for grant in self.grants)

    def holds(self, grant: Grant) -> bool:
        """Return whether it may do all that a grant allows."""
        return self.is_owner or any(
            each.verb is grant.verb and each.scope.contains(grant.scope) for each in self.grants
        )

    def all_grants(self) -> tuple[Grant, ...]:
        """Return its grants; for the owner every verb on everything."""
        return tuple(Grant(verb, Scope("*")) for verb in Verb) if self.is_owner else self.grants

    def __str__(self) -> str:
        if self.kind is not PrincipalKind.HOST:
            return self.name
        return f"host:{self.name}/{self.instance}" if self.instance else f"host:{self.name}"


OWNER = Principal(kind=PrincipalKind.OWNER, name="owner")
ANYONE = Principal(kind=PrincipalKind.ANYONE, name="anyone")


class Caller(Struct, frozen=True, kw_only=True):
    """A call's author, its peer's address and its trace.

    :param traceparent: the W3C trace context of the call, as sent; empty for none
    """

    principal: Principal
    peer: str
    traceparent: str = ""

    def signed(self, note: str) -> str:
        """Return the author for the record: the principal, and on whose behalf, if the call says so.

        A note never stands alone: it proves nothing.
        """
        return f"{self.principal} (for {note})" if note else str(self.principal)

    def require(self, verb: Verb, target: Target) -> None:
        """Check that the principal may do something.

        :raises NotPermitted: if it may not
        """
        if not self.principal.may(verb, target):
            raise NotPermitted(self.principal, verb, str(target))


KERNEL = Caller(principal=Principal(kind=PrincipalKind.KERNEL, name="kernel"), peer="")
"""The kernel itself, for what it does without a call."""
