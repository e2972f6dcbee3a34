"""The policy: what each method of the kernel asks of its caller. A method that is missing here is served to nobody."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct

from nomaflow_kernel.access.grants import Verb


class About(enum.Enum):
    """The target of a method, and so where its grant is checked."""

    NOTHING = enum.auto()
    """No target: any principal that may call the service."""
    EVERYTHING = enum.auto()
    """The kernel as a whole: only a scope of ``*``."""
    JOB = enum.auto()
    """The job that the request's ``job_id`` names."""
    RUN = enum.auto()
    """The job of the run that ``run_id`` names."""
    HOST = enum.auto()
    """The host that ``host`` names."""
    HOST_OR_ONLY = enum.auto()
    """The host that ``host`` names; if it names none, the service takes the caller's only one."""
    PLACE = enum.auto()
    """A job, a host or everything: whichever the request names."""
    ITEMS = enum.auto()
    """Many jobs, each with an answer of its own: the service checks them."""
    LIST = enum.auto()
    """All that the caller may see: the service leaves the rest out."""
    HOST_ITSELF = enum.auto()
    """The host that calls, by its certificate; on the owner's socket by the name it gives."""


class Rule(Struct, frozen=True):
    """The demands of a method on its caller.

    :param verb: the verb it needs; None if any principal may call it
    :param changes: whether it changes something, and so is in the audit
    :param others: a second verb that it needs for a run that another principal triggered; None for no other
    :param open: whether it may be called without a credential
    """

    verb: Verb | None
    about: About
    changes: bool = False
    others: Verb | None = None
    open: bool = False


_KERNEL = "/nomaflow_api.v1.KernelService/"
_ACCESS = "/nomaflow_api.v1.AccessService/"
_GATEWAY = "/nomaflow_api.v1.HostGatewayService/"

RULES: Mapping[str, Rule] = {
    _KERNEL + "GetKernel": Rule(None, About.NOTHING),
    _KERNEL + "TriggerRun": Rule(Verb.TRIGGER, About.JOB, changes=True),
    _KERNEL + "StreamTriggers": Rule(Verb.TRIGGER, About.ITEMS),
    _KERNEL + "TriggerRuns": Rule(Verb.TRIGGER, About.ITEMS, changes=True),
    _KERNEL + "CancelRun": Rule(Verb.CANCEL, About.RUN, changes=True),
    _KERNEL + "ReplayRun": Rule(Verb.TRIGGER, About.RUN, changes=True, others=Verb.OPERATE),
    _KERNEL + "GetRun": Rule(Verb.READ, About.RUN),
    _KERNEL + "ListRuns": Rule(Verb.READ, About.LIST),
    _KERNEL + "WatchRun": Rule(Verb.READ, About.RUN),
    _KERNEL + "WatchEvents": Rule(Verb.READ, About.LIST),
    _KERNEL + "ReadLogs": Rule(Verb.LOGS, About.RUN),
    _KERNEL + "ReadLogChunks": Rule(Verb.LOGS, About.RUN),
    _KERNEL + "SummarizeRuns": Rule(Verb.READ, About.LIST),
    _KERNEL + "GetJobStats": Rule(Verb.READ, About.LIST),
    _KERNEL + "ListEvents": Rule(Verb.READ, About.LIST),
    _KERNEL + "ListFires": Rule(Verb.READ, About.LIST),
    _KERNEL + "ListCallables": Rule(Verb.READ, About.HOST_OR_ONLY),
    _KERNEL + "InspectAttempt": Rule(Verb.LOGS, About.RUN),
    _KERNEL + "ListJobs": Rule(Verb.READ, About.LIST),
    _KERNEL + "GetJob": Rule(Verb.READ, About.JOB),
    _KERNEL + "ListHosts": Rule(Verb.READ, About.LIST),
    _KERNEL + "ListWanted": Rule(Verb.READ, About.LIST),
    _KERNEL + "DeclareEnded": Rule(Verb.LAUNCH, About.HOST, changes=True),
    _KERNEL + "ReloadHost": Rule(Verb.OPERATE, About.HOST_OR_ONLY, changes=True),
    _KERNEL + "ForgetHost": Rule(Verb.ADMIN, About.HOST, changes=True),
    _KERNEL + "Pause": Rule(Verb.OPERATE, About.PLACE, changes=True),
    _KERNEL + "Resume": Rule(Verb.OPERATE, About.PLACE, changes=True),
    _ACCESS + "CreateToken": Rule(Verb.ADMIN, About.EVERYTHING, changes=True),
    _ACCESS + "InviteInstance": Rule(Verb.LAUNCH, About.HOST, changes=True),
    _ACCESS + "ListTokens": Rule(Verb.ADMIN, About.EVERYTHING),
    _ACCESS + "RevokeTokens": Rule(Verb.ADMIN, About.EVERYTHING, changes=True),
    _ACCESS + "RotateToken": Rule(Verb.ADMIN, About.EVERYTHING, changes=True),
    _ACCESS + "ListCertificates": Rule(Verb.ADMIN, About.EVERYTHING),
    _ACCESS + "GetAuthority": Rule(Verb.READ, About.NOTHING),
    _ACCESS + "RenewAuthority": Rule(Verb.ADMIN, About.EVERYTHING, changes=True),
    _ACCESS + "ReadAudit": Rule(Verb.ADMIN, About.EVERYTHING),
    _ACCESS + "VerifyAudit": Rule(Verb.ADMIN, About.EVERYTHING),
    _GATEWAY + "Attach": Rule(None, About.HOST_ITSELF),
    _GATEWAY + "StreamReports": Rule(None, About.HOST_ITSELF),
    _GATEWAY + "IntroduceManifest": Rule(None, About.HOST_ITSELF, changes=True),
    _GATEWAY + "RenewCertificate": Rule(None, About.HOST_ITSELF, changes=True),
    "/nomaflow_api.v1.EnrolmentService/Enrol": Rule(None, About.NOTHING, changes=True, open=True),
    "/grpc.health.v1.Health/Check": Rule(None, About.NOTHING, open=True),
    "/grpc.health.v1.Health/Watch": Rule(None, About.NOTHING),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(None, About.NOTHING),
}
"""Every method that a kernel serves."""
