"""The parts of Kubernetes' objects that are read; whatever else they hold is passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct, field

T = TypeVar("T")


class Meta(Struct, frozen=True, rename="camel"):
    """The name of an object, its identity, and who owns it."""

    name: str
    uid: str
    annotations: Mapping[str, str] | None = None
    deletion_timestamp: str | None = None
    owner_references: Sequence[Owner] | None = None


class Owner(Struct, frozen=True):
    """The object to which another one belongs."""

    uid: str


class ListMeta(Struct, frozen=True):
    """The place at which the next part of a list begins."""

    next_part: str | None = field(default=None, name="continue")


class Listed(Struct, Generic[T], frozen=True):
    """A part of a list of objects."""

    items: Sequence[T] | None
    metadata: ListMeta = ListMeta()


class Condition(Struct, frozen=True):
    """A condition of a job or a pod."""

    type: str
    status: str
    message: str | None = None

    @property
    def holds(self) -> bool:
        """True if it is met."""
        return self.status == "True"


class JobStatus(Struct, frozen=True):
    """The conditions of a job."""

    conditions: Sequence[Condition] | None = None


class Job(Struct, frozen=True):
    """A job."""

    metadata: Meta
    status: JobStatus = JobStatus()

    @property
    def is_over(self) -> bool:
        """True if it has ended, ends, or was taken back: it starts nothing any more."""
        ended = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")
        conditions = self.status.conditions or ()
        return self.metadata.deletion_timestamp is not None or any(c.type in ended and c.holds for c in conditions)


class Terminated(Struct, frozen=True, rename="camel"):
    """The end of a container, as its node's kubelet reports it."""

    exit_code: int
    signal: int | None = None
    reason: str | None = None
    container_id: str | None = field(default=None, name="containerID")
    finished_at: datetime | None = None


class Waiting(Struct, frozen=True):
    """The cause for which a container has not started."""

    reason: str | None = None
    message: str | None = None


class ContainerState(Struct, frozen=True):
    """The state of a container: one of these, or none while it runs."""

    terminated: Terminated | None = None
    waiting: Waiting | None = None


class ContainerStatus(Struct, frozen=True):
    """A container as it is."""

    name: str
    state: ContainerState | None = None


class PodStatus(Struct, frozen=True, rename="camel"):
    """A pod as it is."""

    reason: str | None = None
    start_time: datetime | None = None
    conditions: Sequence[Condition] | None = None
    container_statuses: Sequence[ContainerStatus] | None = None


class PodSpec(Struct, frozen=True, rename="camel"):
    """A pod as it is wanted."""

    node_name: str | None = None
    host_pid: bool | None = field(default=None, name="hostPID")
    share_process_namespace: bool | None = None


class Pod(Struct, frozen=True):
    """A pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def owners(self) -> Sequence[str]:
        """The ids of the objects that it belongs to, such as its job."""
        return [owner.uid for owner in self.metadata.owner_references or ()]


class Taint(Struct, frozen=True):
    """A mark on a node."""

    key: str


class NodeSpec(Struct, frozen=True):
    """The marks of a node."""

    taints: Sequence[Taint] | None = None


class Node(Struct, frozen=True):
    """A machine of the cluster."""

    spec: NodeSpec = NodeSpec()


class TemplateOfPod(Struct, frozen=True):
    """The pod of a template. Its specification is taken over as it is."""

    spec: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


class PodTemplate(Struct, frozen=True):
    """A template of pods."""

    template: TemplateOfPod
