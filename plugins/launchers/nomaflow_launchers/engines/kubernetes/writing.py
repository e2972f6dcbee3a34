"""The Job of an instance, made from a PodTemplate of the cluster: what the organisation says of its pods is kept."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from nomaflow_launchers.engines.engine import JOB_LABEL, EngineError
from nomaflow_launchers.engines.host_process import host_flags
from nomaflow_launchers.engines.kubernetes.reading import PodTemplate
from nomaflow_launchers.planning import Order
from nomaflow_project.models.launcher_section import LauncherSection

CONTAINER = "host"
"""The container of the template in which the host runs."""
STORE, HOST, SHAPE = "nomaflow.io/store", "nomaflow.io/host", "nomaflow.io/shape"
ATTEMPT = "nomaflow.io/attempt"
"""The annotation with the key of the one attempt that an instance is for."""
UNFINISHED = "nomaflow.io/unfinished"
"""The annotation of a job that waits for its secret."""
FINISHED = {"metadata": {"annotations": {UNFINISHED: None}}, "spec": {"suspend": False}}
"""The change that lets such a job begin."""
POD_LABEL = "launcher.pod"
"""The label of an instance that holds the uid of its pod."""
_MANAGER, _OURS = "app.kubernetes.io/managed-by", "nomaflow-launcher"
_GPU = "nvidia.com/gpu"
_JOIN, _JOIN_FOLDER, _JOIN_FILE = "nomaflow-join", "/run/nomaflow", "join"
_KEPT_SECONDS = 3600
_FIELDS = {
    "NOMAFLOW_POD_UID": "metadata.uid",
    "NOMAFLOW_POD_JOB": "metadata.labels['batch.kubernetes.io/controller-uid']",
}


def selector(store_id: str) -> str:
    """Return the selector of all that was started for a history."""
    return f"{_MANAGER}={_OURS},{STORE}={store_id}"


def job_name(order: Order, number: int) -> str:
    """Return the name of an order's job: the same order with the same number has the same, and no other has."""
    key = "/".join((order.store_id, order.host, order.shape.name, *filter(None, [order.attempt_key])))
    slug = re.sub(r"[^a-z0-9]+", "-", order.host)[:30].strip("-")
    return f"nomaflow-{slug}-{hashlib.sha256(key.encode()).hexdigest()[:10]}-{number}"


def job_of(section: LauncherSection, template: PodTemplate, order: Order, *, name: str) -> dict[str, Any]:
    """Return the job.

    :raises EngineError: if the template has no container for the host
    """
    labels = {
        _MANAGER: _OURS,
        STORE: order.store_id,
        HOST: _label_value(order.host),
        SHAPE: _label_value(order.shape.name),
    }
    named = {HOST: order.host, SHAPE: order.shape.name}
    if order.attempt_key:
        named[ATTEMPT] = order.attempt_key
    given = template.template.metadata
    spec = copy.deepcopy(template.template.spec)
    container = next((each for each in spec.get("containers") or () if each.get("name") == CONTAINER), None)
    if container is None:
        raise EngineError(f"the PodTemplate of the launcher has no container of the name {CONTAINER!r}")
    if order.image:
        container["image"] = order.image
    container["args"] = [*(container.get("args") or ()), *_arguments(section, order, name)]
    fields = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _FIELDS.items()]
    container["env"] = [*(container.get("env") or ()), *fields]
    if order.join:
        volume = {"name": _JOIN, "secret": {"secretName": name, "defaultMode": 0o440}}
        spec["volumes"] = [*(spec.get("volumes") or ()), volume]
        mount = {"name": _JOIN, "mountPath": _JOIN_FOLDER, "readOnly": True}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    container["resources"] = _resources(container.get("resources") or {}, order)
    # Time to pull the image and to start, and then the time that the host itself knows of.
    deadline = int(section.walltime_seconds + section.start_seconds)
    spec |= {"restartPolicy": "Never", "activeDeadlineSeconds": max(1, deadline)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {**named, **({UNFINISHED: "true"} if order.join else {})},
        },
        "spec": {
            "suspend": bool(order.join),
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {
                "metadata": {
                    "labels": {**(given.get("labels") or {}), **labels},
                    "annotations": {**(given.get("annotations") or {}), **named},
                },
                "spec": spec,
            },
        },
    }


def secret_of(order: Order, *, name: str, uid: str) -> dict[str, Any]:
    """Return the secret with an order's join string, which goes with its job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {_MANAGER: _OURS}, "ownerReferences": [owner]},
        "immutable": True,
        "stringData": {_JOIN_FILE: order.join},
    }


def _arguments(section: LauncherSection, order: Order, name: str) -> list[str]:
    """Return what the host is told. The kubelet puts in what only the pod knows: ``$(NAME)``."""
    own = {
        JOB_LABEL: f"{name}.$(NOMAFLOW_POD_JOB)",
        POD_LABEL: "$(NOMAFLOW_POD_UID)",
    }
    labels = {**{name: value.replace("$", "$$") for name, value in order.shape.labels.items()}, **own}
    return [
        *(flag.replace("$", "$$") for flag in host_flags(section, order)),
        *("--state-dir", f"{section.scratch or '/tmp'}/nomaflow"),  # noqa: S108  # the pod's own, an emptyDir
        *("--labels", ",".join(f"{name}={value}" for name, value in labels.items())),
        *("--ends-at", f"+{section.walltime_seconds:g}"),
        *(("--join", f"{_JOIN_FOLDER}/{_JOIN_FILE}") if order.join else ()),
    ]


def _resources(given: Mapping[str, Any], order: Order) -> dict[str, Any]:
    """Return the template's with the shape's amounts. Memory is a limit too, so that what takes more ends by itself."""
    shape = order.shape
    memory = f"{shape.memory_mb}Mi"
    gpus = {_GPU: str(shape.gpus)} if shape.gpus else {}
    requests = {**(given.get("requests") or {}), "cpu": f"{shape.cpu:g}", "memory": memory, **gpus}
    limits = {**(given.get("limits") or {}), "memory": memory, **gpus}
    return {**given, "requests": requests, "limits": limits}


def _label_value(name: str) -> str:
    """Return a name as far as a label of Kubernetes can hold it; the annotation has it whole."""
    return name[:63].rstrip("-_")
