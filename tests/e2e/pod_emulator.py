"""The machine of a small Kubernetes: each pod's container is a real process, in namespaces of its own as in a container.

The first process of the container is the host itself. When it ends, the kernel of the system ends whatever else is in its
namespace, as at a container's end. The disk is read-only but for the volumes, if the container says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from kubernetes_server import KubernetesServer, Object, now
from processes import is_alive, pids_below
from real_system import eventually

__all__ = ["PodEmulator"]

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z0-9_]+)\)")


class PodEmulator:
    """The kubelet of the only machine.

    :param folder: for volumes and the containers' output
    """

    def __init__(self, server: KubernetesServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        server.on_pod = self._start
        server.on_end = lambda pod: self._in_background(self._end, pod)

    def first_process(self, pod: Object) -> int:
        """Return the process of this system that is the first one of a pod's container."""
        unshare = psutil.Process(self._running[pod["metadata"]["uid"]].pid)
        return eventually(unshare.children)[0].pid

    def processes(self, pod: Object) -> list[int]:
        """Return the processes of this system that are in a pod's container."""
        first = self.first_process(pod)
        return [first, *pids_below(first)]

    def evict(self, pod: Object) -> None:
        """Ask a pod to end as the kubelet does for want of memory: it stays, FAILED, with that reason."""
        self._server.change("pods", pod["metadata"]["name"], lambda one: one["status"].update(reason="Evicted"))
        self._in_background(self._stop, pod)

    def close(self) -> None:
        """Kill whatever is left, and wait for the threads."""
        for process in self._running.values():
            process.kill()
        for thread in self._threads:
            thread.join(30)

    def _start(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        room = self._folder / uid
        room.mkdir(parents=True)
        (container,) = pod["spec"]["containers"]
        environ = {each["name"]: _value(each, pod) for each in container.get("env", ())}
        command = [_expanded(word, environ) for word in (*container["command"], *container.get("args", ()))]
        script = " &&\n".join([*self._mounts(pod, container, room), 'exec "$@"'])
        with open(room / "log", "ab") as log:
            self._running[uid] = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", script, "sh", *command],
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environ}, stdout=log, stderr=log,
            )  # fmt: skip
        running = {"name": container["name"], "state": {"running": {"startedAt": now()}}}
        change = {"phase": "Running", "containerStatuses": [running]}
        self._server.change("pods", pod["metadata"]["name"], lambda one: one["status"].update(change))
        self._in_background(self._watch, pod)

    def _mounts(self, pod: Object, container: Object, room: Path) -> Iterator[str]:
        """Yield the commands that make the container's view of the disk."""
        yield "mount -t tmpfs none /run"
        volumes = {each["name"]: each for each in pod["spec"].get("volumes", ())}
        for mount in container.get("volumeMounts", ()):
            volume = volumes[mount["name"]]
            source = Path(volume.get("hostPath", {}).get("path", room / mount["name"]))
            source.mkdir(exist_ok=True)
            if "secret" in volume:
                self._fill(source, volume["secret"])
            yield f"mkdir -p {shlex.quote(mount['mountPath'])}"
            yield f"mount --bind {shlex.quote(str(source))} {shlex.quote(mount['mountPath'])}"
        if container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            ours = next(folder for folder in (room, *room.parents) if folder.is_mount())
            for disk in sorted({"/", str(ours)}):
                yield f"mount -o remount,bind,ro {shlex.quote(disk)}"
            # Otherwise no test would notice a host that writes where it may not.
            yield f"! touch {shlex.quote(str(room / 'written'))} 2> /dev/null"

    def _fill(self, folder: Path, volume: Object) -> None:
        """Write the files of a secret, as whoever reads them in a container finds them: the owner is root."""
        secret = self._server.objects["secrets", volume["secretName"]]
        for name, text in secret["stringData"].items():
            (folder / name).write_text(text, "utf-8")
            (folder / name).chmod(volume["defaultMode"])

    def _watch(self, pod: Object) -> None:
        """Wait for a container's end, and report it, for the pod and its job."""
        code = self._running[pod["metadata"]["uid"]].wait()
        ended = {
            "exitCode": code if code >= 0 else 128 - code,
            "reason": "Completed" if code == 0 else "Error",
            "containerID": f"emulated://{pod['metadata']['uid']}",
            "finishedAt": now(),
        }
        state = [{"name": pod["spec"]["containers"][0]["name"], "state": {"terminated": ended}}]
        change = {"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": state}
        self._server.change("pods", pod["metadata"]["name"], lambda one: one["status"].update(change))
        condition = {"type": "Complete" if code == 0 else "Failed", "status": "True"}
        job = pod["metadata"]["ownerReferences"][0]["name"]
        self._server.change("jobs", job, lambda one: one.update(status={"conditions": [condition]}))

    def _stop(self, pod: Object) -> None:
        """Ask a container to end, wait for its grace, and kill it; it may be about to end by itself."""
        process, grace = self._running[pod["metadata"]["uid"]], pod["spec"]["terminationGracePeriodSeconds"]
        eventually(lambda: pids_below(process.pid) or process.poll() is not None)
        below = pids_below(process.pid)
        for first in below[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(first).terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()  # it takes its child with it
            process.wait()
        eventually(lambda: not any(is_alive(pid) for pid in below))

    def _end(self, pod: Object) -> None:
        process = self._running.get(pod["metadata"]["uid"])  # none without a machine
        if process is not None and process.poll() is None:
            self._stop(pod)
        self._server.remove(pod)

    def _in_background(self, work: Any, pod: Object) -> None:
        thread = threading.Thread(target=work, args=(pod,), daemon=True)
        self._threads.append(thread)
        thread.start()


def _value(variable: Object, pod: Object) -> str:
    """Return the value of a variable; the downward API gives a few fields of the pod."""
    if "value" in variable:
        return str(variable["value"])
    path = variable["valueFrom"]["fieldRef"]["fieldPath"]
    if match := re.fullmatch(r"metadata\.labels\['(.+)'\]", path):
        return str(pod["metadata"]["labels"][match[1]])
    return str({"metadata.uid": pod["metadata"]["uid"], "spec.nodeName": pod["spec"]["nodeName"]}[path])


def _expanded(word: str, environ: dict[str, str]) -> str:
    """Return a word with its references to variables resolved, as the kubelet does it."""
    return _REFERENCE.sub(lambda found: environ.get(found[1], found[0]) if found[1] else "$", word)
