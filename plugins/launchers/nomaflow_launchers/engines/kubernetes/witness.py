"""The witness of a pod's end: whether nothing of the pod can run any more, and by whose word.

A pod that is gone, or of which its node is silent, proves nothing: the API server forgets a pod by force, and calls a
pod of a silent node failed, while its processes go on. Three things prove the end: the kubelet's word that the
container has ended, the deletion of the Node, and an operator's mark on it that the machine is out of service. The last
two are Kubernetes' own conditions for starting a pod's successor elsewhere.
"""

from __future__ import annotations

from nomaflow_launchers.engines.kubernetes.reading import Node, Pod, Terminated
from nomaflow_launchers.engines.kubernetes.writing import CONTAINER

_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_NOT_SEEN = "ContainerStatusUnknown"


def evidence_of_end(pod: Pod, *, node: Node | None) -> str:
    """Return how it is known that nothing of a pod runs any more, in words; empty if it is not known.

    :param node: the pod's node; None if the API server has said that there is no such node
    """
    machine = f"node {pod.spec.node_name}"
    if node is None:
        return f"{machine} was deleted from the cluster"
    if any(taint.key == _OUT_OF_SERVICE for taint in node.spec.taints or ()):
        return f"{machine} is marked as out of service"
    if pod.spec.host_pid or pod.spec.share_process_namespace:
        return ""  # the end of the container's first process is not that of the others
    for container in pod.status.container_statuses or ():
        ended = container.state.terminated if container.state else None
        if container.name == CONTAINER and ended is not None and _seen(ended):
            return f"the kubelet of {machine} reports that the container ended{_how(ended, pod.status.reason)}"
    return ""


def _seen(ended: Terminated) -> bool:
    """Return whether the kubelet has seen the end, and not just no container."""
    return bool(ended.container_id) and ended.finished_at is not None and ended.reason != _NOT_SEEN


def _how(ended: Terminated, pod_reason: str | None) -> str:
    causes = [cause for cause in (ended.reason, pod_reason) if cause and cause not in ("Error", "Completed")]
    code = f" by signal {ended.signal}" if ended.signal else f" with exit code {ended.exit_code}"
    return f"{code} ({', '.join(causes)})" if causes else code
