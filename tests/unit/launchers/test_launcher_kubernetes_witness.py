"""The witness of a pod's end: it speaks only where nothing of the pod can run any more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nomaflow_launchers.engines.kubernetes.reading import Node, Pod
from nomaflow_launchers.engines.kubernetes.witness import evidence_of_end

ALIVE = Node()
ENDED = {"exitCode": 0, "reason": "Completed", "containerID": "containerd://1", "finishedAt": "2026-11-26T20:00:00Z"}
OUT_OF_SERVICE = msgspec.convert({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}}, Node)
UNREACHABLE = msgspec.convert({"spec": {"taints": [{"key": "node.kubernetes.io/unreachable"}]}}, Node)


def _pod(ended: dict[str, Any] | None = None, *, name: str = "host", **more: Any) -> Pod:
    state = {"running": {}} if ended is None else {"terminated": {**ENDED, **ended}}
    pod = {
        "metadata": {"name": "p", "uid": "8c1f"},
        "spec": {"nodeName": "n7", **more.get("spec", {})},
        "status": {"phase": "Running", "containerStatuses": [{"name": name, "state": state}], **more.get("status", {})},
    }
    return msgspec.convert(pod, Pod)


PROOFS = {
    "ended well": (_pod({}), ALIVE, "the kubelet of node n7 reports that the container ended with exit code 0"),
    "exit code": (_pod({"exitCode": 3, "reason": "Error"}), ALIVE, "ended with exit code 3"),
    "memory": (_pod({"exitCode": 137, "reason": "OOMKilled"}), ALIVE, "ended with exit code 137 (OOMKilled)"),
    "signal": (_pod({"exitCode": 0, "signal": 9, "reason": "Error"}), ALIVE, "ended by signal 9"),
    "evicted": (
        _pod({"exitCode": 143, "reason": "Error"}, status={"phase": "Failed", "reason": "Evicted"}),
        ALIVE,
        "ended with exit code 143 (Evicted)",
    ),
    "node deleted": (_pod(), None, "node n7 was deleted from the cluster"),
    "node out of service": (_pod(), OUT_OF_SERVICE, "node n7 is marked as out of service"),
    "node deleted, processes shared": (_pod(spec={"hostPID": True}), None, "node n7 was deleted from the cluster"),
}
NO_PROOFS = {
    "it runs": (_pod(), ALIVE),
    "the node is silent": (_pod(status={"phase": "Unknown"}), UNREACHABLE),
    "the controller gave the pod up": (_pod(status={"phase": "Failed", "reason": "NodeLost"}), UNREACHABLE),
    "evicted, without the containers": (_pod(status={"phase": "Failed", "containerStatuses": None}), ALIVE),
    "the kubelet has not found the container": (_pod({"exitCode": 137, "reason": "ContainerStatusUnknown"}), ALIVE),
    "a container without an id": (_pod({"containerID": ""}), ALIVE),
    "an end without a time": (_pod({"finishedAt": None}), ALIVE),
    "another container has ended": (_pod({}, name="side"), ALIVE),
    "processes are the node's": (_pod({}, spec={"hostPID": True}), ALIVE),
    "processes are shared": (_pod({}, spec={"shareProcessNamespace": True}), ALIVE),
}


@pytest.mark.parametrize("name", PROOFS)
def test_an_end_is_proved_by_the_kubelet_or_an_operator(name: str) -> None:
    """Each says by whose word, and how it ended."""
    pod, node, words = PROOFS[name]
    assert evidence_of_end(pod, node=node).endswith(words)


@pytest.mark.parametrize("name", NO_PROOFS)
def test_nothing_else_proves_an_end(name: str) -> None:
    """The kernel then waits, as it does for every host that is silent."""
    pod, node = NO_PROOFS[name]
    assert evidence_of_end(pod, node=node) == ""
