"""The keys of ``[launcher]`` in nomaflow.toml: the instances that a launcher may start on an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from nomaflow_project.jobs.resources import MOST, Labels, Resources
from nomaflow_project.reading.keys import Entry, formed, key, seconds
from nomaflow_project.reading.names import HOST_NAME, HostNames, LogLevel

ENGINES_WITH_IMAGES = frozenset({"kubernetes"})
"""The engines that start an instance in a container image."""


ShapeName = Annotated[
    str,
    formed("bad_host_name", HOST_NAME.fullmatch, "a name", "use lower-case letters, digits, '-' and '_'"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LauncherShape(Entry):
    """One kind of instance. The launcher takes the first that has what a waiting step needs."""

    name: ShapeName = key(..., "Its name, such as `gpu`.")
    cpu: float = key(1.0, "Cores that it asks the engine for, and offers to steps.", gt=0, le=MOST["cpu"])
    memory_mb: int = key(1024, "Memory, likewise.", unit="MiB", ge=64, le=MOST["memory_mb"])
    gpus: int = key(0, "GPUs, likewise.", ge=0, le=MOST["gpus"])
    labels: Labels = key(dict, "Its labels.")
    steps: int = key(4, "Steps that need no resources and that one instance is meant to run at once.", ge=1, le=10_000)
    options: tuple[str, ...] = key(tuple, "Further options for the engine, such as `--partition=gpu` for `sbatch`.")
    pod_template: str = key("", "Its PodTemplate of Kubernetes. Empty: that of `[launcher]`.")

    @property
    def resources(self) -> Resources:
        """The amounts and labels that one instance offers to steps."""
        return Resources(cpu=self.cpu, memory_mb=self.memory_mb, gpus=self.gpus, labels=self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class LauncherSection(Entry):
    """The launcher, which starts instances of hosts on an engine when steps wait for them."""

    engine: Literal["kubernetes", "ray", "slurm"] = key("slurm", "Where it starts them.")
    hosts: HostNames = key(tuple, "The hosts that it starts instances of. Their project is the one of this file.")
    max_instances: int = key(
        10, "Instances at once, over all hosts. Of one host there are never more than 100.", ge=1, le=1000
    )
    shapes: tuple[LauncherShape, ...] = key(tuple, "Kinds of instances. Empty: one with the defaults.")
    idle_exit_seconds: float = seconds(300.0, "An instance that has run nothing for this long ends.", most=604_800)
    walltime_seconds: float = seconds(3600.0, "The longest life of an instance.", most=31_536_000)
    start_seconds: float = seconds(300.0, "An instance that has run for this long without attaching is ended.")
    poll_seconds: float = seconds(5.0, "How often the kernel and the engine are asked.", most=3600)
    python: str = key("", "The Python that runs a host on the engine's machines. Empty: the launcher's own.")
    scratch: str = key("", "Folder on the machines for what an instance stores. Empty: `$TMPDIR`, else /tmp.")
    api: str = key("", "Address of `kubectl proxy`, such as `unix:/home/me/kube.sock`, if the launcher is in no pod.")
    namespace: str = key("", "Namespace of Kubernetes for the instances. Empty: the launcher's own.")
    pod_template: str = key("nomaflow-host", "The PodTemplate of Kubernetes from which pods are made.")
    ray_address: str = key("", "`HOST:PORT` or `ray://HOST:PORT` of Ray. Empty: the cluster of this machine.")
    pass_env: tuple[str, ...] = key(
        tuple, "Variables of the launcher that instances get besides PATH, HOME, USER and LANG."
    )
    kernel: str = key("", "Address of the kernel for the launcher itself. Empty: the project's own.")
    token_file: str = key("", "File with its token for a kernel on TCP, with the role `launcher`.")
    kernel_ca: str = key("", "File with the authority of that kernel, PEM. Empty: the system's.")
    log_level: LogLevel = key("INFO", "Lowest level of the launcher's own log.")
    log_format: Literal["text", "json"] = key("text", "The launcher's own log: for people, or one JSON object a line.")
