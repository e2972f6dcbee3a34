"""Kubernetes: a Job of one pod for each instance.

A job's labels name the kernel's history, the host and the shape, so whatever a launcher has started can be read from
the cluster by the next one. Its name follows from these and a number, so that the same start asked for twice, by a
launcher that does not know whether it was heard or by two at once, makes one job.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nomaflow_launchers.engines.kubernetes.api import ApiPlace, ApiServer, Exists, Forbidden, Missing
from nomaflow_launchers.engines.kubernetes.reading import Job, Node, Pod, PodTemplate
from nomaflow_launchers.engines.kubernetes.witness import evidence_of_end
from nomaflow_launchers.engines.kubernetes.writing import (
    ATTEMPT,
    FINISHED,
    HOST,
    POD_LABEL,
    SHAPE,
    UNFINISHED,
    job_name,
    job_of,
    secret_of,
    selector,
)
from nomaflow_launchers.planning import Launched, Order
from nomaflow_project.models.launcher_section import LauncherSection
from nomaflow_telemetry.visible_text import printable

_LOG = logging.getLogger(__name__)


class Kubernetes:
    """The jobs of one launcher, an :class:`~nomaflow_launchers.engines.engine.Engine`."""

    def __init__(self, section: LauncherSection, *, project: Path, environ: Mapping[str, str]) -> None:
        self._section = section
        self._environ = environ
        self._opened: ApiServer | None = None
        self._names: set[str] = set()
        self._told: frozenset[str] = frozenset()

    async def listed(self, store_id: str) -> Sequence[Launched]:
        """Return the instances of that history that wait for a machine or run.

        :raises EngineError: if the cluster does not give the whole list
        """
        api, chosen = self._api(), selector(store_id)
        jobs = [job async for job in api.items(self._jobs, Job, labelSelector=chosen)]
        pods = [pod async for pod in api.items(self._pods, Pod, labelSelector=chosen)]
        self._names = {job.metadata.name for job in jobs}
        of_job = {owner: pod for pod in pods for owner in pod.owners}
        self._tell([*_hindrances(pods)])
        begun = [job for job in jobs if self._is_begun(job)]
        for job in begun:
            _LOG.info("job %s was begun by a launcher that has not finished it: deleting it", job.metadata.name)
            await self.end(_id_of(job), only_waiting=False)
        left = [job for job in jobs if job not in begun and not job.is_over]
        return [_launched(job, of_job.get(job.metadata.uid), api.clock) for job in left]

    def _is_begun(self, job: Job) -> bool:
        """Return whether a job is an unfinished one of this launcher; another launcher may be finishing its own."""
        named = job.metadata.annotations or {}
        return UNFINISHED in named and named.get(HOST) in self._section.hosts

    async def start(self, order: Order) -> str:
        """Start an instance, unless the same start was made meanwhile, and return the engine's id of it.

        Where it gets a join string, the job begins once its secret is there: one that is left before that starts
        nothing, and the next launcher deletes it.

        :raises EngineError: if the cluster refuses, or its answer is not known
        """
        api = self._api()
        named = order.shape.pod_template or self._section.pod_template
        template = await api.get(f"/api/v1/namespaces/{api.place.namespace}/podtemplates/{named}", PodTemplate)
        name = next(name for n in itertools.count() if (name := job_name(order, n)) not in self._names)
        self._names.add(name)
        try:
            job = await api.create(self._jobs, Job, job_of(self._section, template, order, name=name))
        except Exists:
            _LOG.info("job %s has been started already", name)
            return _id_of(await api.get(f"{self._jobs}/{name}", Job))
        if order.join:
            secret = secret_of(order, name=name, uid=job.metadata.uid)
            await api.create(f"/api/v1/namespaces/{api.place.namespace}/secrets", dict, secret)
            await api.change(f"{self._jobs}/{name}", FINISHED)
        return _id_of(job)

    async def end(self, engine_id: str, *, only_waiting: bool) -> None:
        """End an instance: its pod is asked to stop, and drains. One that has ended is no error.

        :param only_waiting: leave it alone if it has got a machine meanwhile
        :raises EngineError: if the cluster refuses
        """
        name, _, uid = engine_id.partition(".")
        api = self._api()
        if only_waiting and any(pod.spec.node_name and uid in pod.owners for pod in await self._pods_of(name)):
            return
        await api.delete(f"{self._jobs}/{name}", uid=uid)

    async def witness(self, engine_id: str, labels: Mapping[str, str]) -> str:  # the port's
        """Return how it is known that nothing of a pod runs any more, in words; empty if it is not known.

        :raises EngineError: if the cluster does not answer
        """
        uid = labels.get(POD_LABEL, "")
        pod = next((pod for pod in await self._pods_of(engine_id.partition(".")[0]) if pod.metadata.uid == uid), None)
        if pod is None or not pod.spec.node_name:
            return ""
        node: Node | None
        try:
            node = await self._api().get(f"/api/v1/nodes/{pod.spec.node_name}", Node)
        except Missing:
            node = None
        except Forbidden:  # nodes are the whole cluster's, and not everybody may read them: the kubelet's word is left
            node = Node()
        return evidence_of_end(pod, node=node)

    async def _pods_of(self, job: str) -> Sequence[Pod]:
        return [pod async for pod in self._api().items(self._pods, Pod, labelSelector=f"job-name={job}")]

    def log_of(self, engine_id: str) -> str:
        """Return the command that shows the output of an instance."""
        namespace = self._opened.place.namespace if self._opened else self._section.namespace
        return f"kubectl logs --namespace {namespace} job/{engine_id.partition('.')[0]}"

    async def aclose(self) -> None:
        """Close the connections. Instances go on."""
        if self._opened is not None:
            await self._opened.aclose()

    def _api(self) -> ApiServer:
        """Return the API server.

        :raises EngineError: if there is none
        """
        if self._opened is None:
            self._opened = ApiServer(ApiPlace.of(self._section.api, self._section.namespace, self._environ))
        return self._opened

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self._api().place.namespace}/jobs"

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self._api().place.namespace}/pods"

    def _tell(self, hindrances: Sequence[str]) -> None:
        """Log what keeps pods from running, each cause once."""
        found = frozenset(hindrances)
        for text in sorted(found - self._told):
            _LOG.warning("%s", text)
        self._told = found


def _id_of(job: Job) -> str:
    """Return the engine's id: the name is for people, and is given again to another job after this one is forgotten."""
    return f"{job.metadata.name}.{job.metadata.uid}"


def _launched(job: Job, pod: Pod | None, now: float) -> Launched:
    named = job.metadata.annotations or {}
    began = pod.status.start_time if pod is not None else None  # its machine sets it
    return Launched(
        engine_id=_id_of(job),
        host=named.get(HOST, ""),
        shape=named.get(SHAPE, ""),
        attempt_key=named.get(ATTEMPT, ""),
        running_seconds=max(0.0, now - began.timestamp()) if began is not None else None,
    )


def _hindrances(pods: Sequence[Pod]) -> Iterator[str]:
    """Yield why pods do not run, such as for want of a machine or an image."""
    for pod in pods:
        for condition in pod.status.conditions or ():
            if condition.type == "PodScheduled" and not condition.holds and condition.message:
                yield f"pod {pod.metadata.name} has no machine: {printable(condition.message)[:500]}"
        for container in pod.status.container_statuses or ():
            waiting = container.state.waiting if container.state else None
            if waiting is not None and waiting.message:
                cause = f"{waiting.reason}: {waiting.message}"
                yield f"container {container.name} of pod {pod.metadata.name} waits: {printable(cause)[:500]}"
