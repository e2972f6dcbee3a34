"""A small API server of Kubernetes: objects in memory, the answers of a real one where the launcher looks at them.

It has the controller that makes a pod for each job, and what belongs to a deleted object goes with it. Machines and
what runs on them are somebody else's: see ``on_pod`` and ``on_end``.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes_models import problems

__all__ = ["Fault", "KubernetesServer", "Object", "now"]

Object = dict[str, Any]
Fault = tuple[int, dict[str, str], bytes]
_PATH = re.compile(r"/(?:api/v1|apis/[a-z.0-9]+/v1)(?:/namespaces/([a-z-]+))?/([a-z]+)(?:/([a-z0-9.-]+))?")
_VERBS = {"POST": "create", "DELETE": "delete", "PATCH": "patch"}
_KINDS = {"POST": "application/json", "PATCH": "application/merge-patch+json", "DELETE": "application/json"}
_REASONS = {403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}
_LONGEST_PART = 3
"""Objects in a part of a list, so that every list of more has parts."""


def now() -> str:
    """Return the time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class KubernetesServer:
    """An API server on a loopback port.

    :ivar allowed: verbs and resources that the caller may use; None for all
    :ivar faults: answers that are given next, instead of the true ones
    :ivar lost: answers to this many creations are not sent, although the object is made
    :ivar on_pod: called with each new pod that has a machine
    :ivar on_end: called with a pod that is to end
    :ivar machines: whether pods get a machine
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.allowed: set[tuple[str, str]] | None = None
        self.faults: deque[Fault] = deque()
        self.lost = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        self.on_pod: Callable[[Object], None] = lambda _: None
        self.on_end: Callable[[Object], None] = self.remove
        self.machines = True
        self.token = ""
        self.lock = threading.RLock()
        self.port = 0
        self.open()

    def open(self) -> None:
        """Listen, at the same port as before."""
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), _Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]  # read by the handler
        self.port = int(self._http.server_address[1])
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening. Objects stay."""
        self._http.shutdown()
        self._http.server_close()

    def all(self, resource: str) -> list[Object]:
        """Return copies of the objects of a kind."""
        with self.lock:
            return [copy.deepcopy(each) for (kind, _), each in self.objects.items() if kind == resource]

    def put(self, resource: str, given: Object) -> Object:
        """Make an object, with a name and a uid of the server."""
        with self.lock:
            meta = given["metadata"]
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "namespace": "default"}
            self.objects[resource, meta["name"]] = given
        if resource == "jobs" and not given["spec"].get("suspend"):
            self.begin(given)
        return given

    def change(self, resource: str, name: str, change: Callable[[Object], None]) -> None:
        """Change an object where it still exists."""
        with self.lock:
            if (found := self.objects.get((resource, name))) is not None:
                change(found)

    def remove(self, pod: Object) -> None:
        """Forget a pod."""
        with self.lock:
            self.objects.pop(("pods", pod["metadata"]["name"]), None)

    def delete(self, resource: str, name: str) -> None:
        """Delete an object; the pods of a job are asked to end."""
        with self.lock:
            gone = self.objects.pop((resource, name))
            for secret in self._owned("secrets", gone):
                self.objects.pop(("secrets", secret["metadata"]["name"]))
            mine = self._owned("pods", gone)
        for pod in mine:
            self.on_end(pod)

    def _owned(self, resource: str, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]
        return [each for each in self.all(resource) if each["metadata"]["ownerReferences"][0]["uid"] == uid]

    def give_machine(self, pod: Object) -> None:
        """Place a pod on a machine, whose kubelet takes it."""
        with self.lock:
            pod["spec"]["nodeName"] = "node-1"
            pod["status"] = {"phase": "Pending", "startTime": now()}
            taken = copy.deepcopy(pod)
        self.on_pod(taken)

    def begin(self, job: Object) -> None:
        """Make the pod of a job."""
        meta, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        labels = {**template["metadata"]["labels"], "job-name": meta["name"]}
        labels["batch.kubernetes.io/controller-uid"] = meta["uid"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        pod = {
            "metadata": {**template["metadata"], "name": f"{meta['name']}-{uuid.uuid4().hex[:5]}", "labels": labels},
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        }
        pod["metadata"]["ownerReferences"] = [owner]
        self.put("pods", pod)
        if self.machines:
            self.give_machine(pod)
        else:
            text = "0/1 nodes are available: 1 Insufficient cpu."
            pod["status"]["conditions"] = [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
            ]


def _merge(into: Object, given: Object) -> None:
    """Apply a merge patch."""
    for name, value in given.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        """Answer with an object or a list."""
        self._answer(None)

    def do_POST(self) -> None:
        """Make an object."""
        self._answer(self.rfile.read(int(self.headers["content-length"])))

    def do_PATCH(self) -> None:
        """Change an object."""
        self._answer(self.rfile.read(int(self.headers["content-length"])))

    def do_DELETE(self) -> None:
        """Delete an object."""
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes | None) -> None:
        server: KubernetesServer = self.server.owner  # type: ignore[attr-defined]  # set above
        parts = urlsplit(self.path)
        match = _PATH.fullmatch(parts.path)
        with server.lock:
            if server.faults:
                status, headers, text = server.faults.popleft()
                self._send(status, text, headers)
                return
            if server.token and self.headers.get("authorization") != f"Bearer {server.token}":
                self._refuse(401, "Unauthorized")
                return
            kind = self.headers.get("content-type")
            if self.command in _KINDS and kind != _KINDS[self.command]:
                self._refuse(415, f"the body of the request was in an unknown format: {kind}")
                return
            if match is None:
                self._refuse(404, "the server could not find the requested resource")
                return
            _, resource, name = match.groups()
            verb = _VERBS.get(self.command) or ("get" if name else "list")
            server.calls[verb, resource] += 1
            if server.allowed is not None and (verb, resource) not in server.allowed:
                self._refuse(
                    403,
                    f'{resource} is forbidden: User "system:serviceaccount:default:nomaflow-launcher" cannot {verb} '
                    f'resource "{resource}" in the namespace "default"',
                )
                return
        getattr(self, f"_{verb}")(server, resource, name, dict(parse_qsl(parts.query)), json.loads(body or b"{}"))

    def _list(self, server: KubernetesServer, resource: str, _: str, query: dict[str, str], __: Object) -> None:
        wanted = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        found = [each for each in server.all(resource) if wanted.items() <= each["metadata"].get("labels", {}).items()]
        begin = int(query.get("continue", 0))
        end = begin + min(_LONGEST_PART, int(query["limit"]))
        more = {"continue": str(end)} if end < len(found) else {}
        self._send_json(200, {"kind": "List", "metadata": more, "items": found[begin:end] or None})

    def _get(self, server: KubernetesServer, resource: str, name: str, _: dict[str, str], __: Object) -> None:
        with server.lock:
            found = copy.deepcopy(server.objects.get((resource, name)))
        if found is None:
            self._refuse(404, f'{resource} "{name}" not found')
        else:
            self._send_json(200, found)

    def _create(self, server: KubernetesServer, resource: str, _: str, __: dict[str, str], given: Object) -> None:
        if wrong := problems(given):
            self._refuse(422, f"{given.get('kind')} is invalid: {'; '.join(wrong)}")
            return
        name = given["metadata"]["name"]
        with server.lock:
            if (resource, name) in server.objects:
                self._refuse(409, f'{resource}.batch "{name}" already exists')
                return
            made = copy.deepcopy(server.put(resource, given))
            if server.lost:
                server.lost -= 1
                self.close_connection = True
                return
        self._send_json(201, made)

    def _patch(self, server: KubernetesServer, resource: str, name: str, _: dict[str, str], given: Object) -> None:
        with server.lock:
            found = server.objects.get((resource, name))
            if found is None:
                self._refuse(404, f'{resource}.batch "{name}" not found')
                return
            begins = found["spec"].get("suspend") and given.get("spec", {}).get("suspend") is False
            _merge(found, given)
            changed = copy.deepcopy(found)
        if begins:
            server.begin(changed)
        self._send_json(200, changed)

    def _delete(self, server: KubernetesServer, resource: str, name: str, _: dict[str, str], given: Object) -> None:
        with server.lock:
            found = server.objects.get((resource, name))
            if found is None:
                self._refuse(404, f'{resource}.batch "{name}" not found')
                return
            meant = given.get("preconditions", {}).get("uid", found["metadata"]["uid"])
            if meant != found["metadata"]["uid"]:
                self._refuse(409, "Precondition failed: UID in precondition does not match")
                return
        server.delete(resource, name)
        self._send_json(200, {"kind": "Status", "status": "Success"})

    def _refuse(self, code: int, message: str) -> None:
        reason = _REASONS.get(code, "")
        self._send_json(
            code, {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
        )

    def _send_json(self, status: int, body: Object) -> None:
        self._send(status, json.dumps(body).encode(), {"content-type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body)), "connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
