"""A launcher on a small Kubernetes whose pods are real processes: instances come when steps wait for them, and go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import psutil
import pytest
from launched_system import LaunchedSystem
from pod_emulator import PodEmulator
from team_system import Ledger, reason_of

from kubernetes_server import KubernetesServer, Object
from machine_parts import need
from processes import inner_pid, is_alive, still_alive
from real_system import Running, eventually

pytestmark = pytest.mark.e2e

ALONE = """
[[jobs]]
id = "alone"
overlap = "allow"
steps = [{ callable = "stopping.sync_steps:quick", image = "team/train:2.1" }]
"""


class Cluster(LaunchedSystem):
    """A kernel, and a cluster that can run pods of the host ``team``."""

    server: KubernetesServer
    pods: PodEmulator

    def open(self) -> None:
        """Start everything but the launcher; the kernel knows the jobs of a host that has no instance."""
        self.server = KubernetesServer()
        self.launchers: list[str] = []
        self.pods = PodEmulator(self.server, self.root / "pods")
        self.begin(ALONE)
        (self.root / "ledgers").mkdir()
        self.server.put("podtemplates", self._template())
        self.server.put("nodes", {"metadata": {"name": "node-1"}})

    def clear(self) -> None:
        """End what a test has started, and leave everything as it was before it."""
        while self.launchers:
            self.parts.pop(self.launchers.pop()).stop()
        for job in self.server.all("jobs"):
            self.server.delete("jobs", job["metadata"]["name"])
        eventually(lambda: self.server.all("pods") == [])
        self.server.machines, self.server.allowed = True, None
        self.server.put("podtemplates", self._template())

    def ledger(self) -> Ledger:
        """Return a new ledger in the folder that pods may write to."""
        made = super().ledger()
        return Ledger(file=self.root / "ledgers" / made.file.name)

    def start_launcher(self, name: str = "launcher") -> Running:
        """Start the launcher."""
        (self.root / f"{name}.log").unlink(missing_ok=True)
        self.launchers.append(name)
        keys = {"engine": "kubernetes", "api": self.server.url, "poll_seconds": 0.3, "idle_exit_seconds": 2}
        return self.launcher(os.environ, name=name, **keys)

    def running(self) -> list[Object]:
        """Return the pods whose container runs."""
        return [pod for pod in self.server.all("pods") if pod["status"]["phase"] == "Running"]

    def _template(self) -> Object:
        """Return the organisation's template: a read-only disk, and a grace that is longer than the drain."""
        mounts = [{"name": name, "mountPath": str(self.root / name)} for name in ("scratch", "ledgers")]
        host = {
            "name": "host",
            "image": "hosts/team:1",
            "command": [sys.executable, "-P", "-m", "nomaflow_host", "--project", str(self.root / "team")],
            "env": [{"name": "TMPDIR", "value": str(self.root / "scratch")}],
            "securityContext": {"readOnlyRootFilesystem": True},
            "volumeMounts": mounts,
        }
        volumes = [
            {"name": "scratch", "emptyDir": {}},
            {"name": "ledgers", "hostPath": {"path": str(self.root / "ledgers")}},
        ]
        spec = {"terminationGracePeriodSeconds": 15, "containers": [host], "volumes": volumes}
        return {"metadata": {"name": "nomaflow-host"}, "template": {"spec": spec}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for all tests of this file."""
    need("unshare", namespaces=True)
    made = Cluster(root=tmp_path_factory.mktemp("kubernetes"), on_tcp=True)
    made.open()
    yield made
    made.close()
    made.pods.close()
    made.server.close()


@pytest.fixture
def cluster(whole: Cluster) -> Iterator[Cluster]:
    """A kernel that knows the jobs of a host that has no instance, and a cluster with no job."""
    yield whole
    whole.clear()


def test_instances_come_with_the_work_and_go_with_it(cluster: Cluster) -> None:
    """Twenty runs and no instance: two pods are started, all runs succeed, the pods complete and are not missed.

    The launcher is killed right after it has created its first job, of which it never heard: that job has no secret yet
    and starts nothing, so the next launcher deletes it.
    """
    ledger = cluster.ledger()
    runs = [cluster.start("brief", ledger, seconds=0.2) for _ in range(20)]
    cluster.server.lost = 1
    first = cluster.start_launcher()
    eventually(lambda: cluster.server.all("jobs"))
    first.kill()
    second = cluster.start_launcher("second")
    assert {cluster.end(run).state for run in runs} == {"SUCCEEDED"}
    assert len({run.steps[0].attempts[0].incarnation for run in map(cluster.run, runs)}) <= 2
    eventually(lambda: [pod["status"]["phase"] for pod in cluster.server.all("pods")] == ["Succeeded"] * 2)
    assert len(cluster.server.all("jobs")) == 2
    assert second.stop() == 0


def test_a_step_with_an_image_has_a_pod_of_its_own(cluster: Cluster) -> None:
    """One pod for each attempt, with that image; it ends with the attempt, and is no failure."""
    ledger = cluster.ledger()
    runs = [cluster.start("alone", ledger) for _ in range(2)]
    launcher = cluster.start_launcher()
    assert {cluster.end(run).state for run in runs} == {"SUCCEEDED"}
    eventually(lambda: [pod["status"]["phase"] for pod in cluster.server.all("pods")] == ["Succeeded"] * 2)
    images = [pod["spec"]["containers"][0]["image"] for pod in cluster.server.all("pods")]
    assert images == ["team/train:2.1"] * 2
    assert len({run.steps[0].attempts[0].incarnation for run in map(cluster.run, runs)}) == 2
    assert "was not seen to serve" not in launcher.log
    assert "HTTP" not in launcher.log


def _stops(cluster: Cluster) -> tuple[str, Object, list[int]]:
    """Start a deaf step in the pod; return the id of its run, the pod, and the step's processes as this system has them."""
    ledger = cluster.ledger()
    run_id = cluster.start("daemonises_and_is_deaf", ledger)
    if not cluster.launchers:
        cluster.start_launcher()
    ledger.wait_for("start")
    (pod,) = cluster.running()
    noted = {entry.get("child", entry["pid"]) for entry in ledger.entries()}
    pids = [pid for pid in cluster.pods.processes(pod) if inner_pid(pid) in noted]
    assert len(pids) == len(noted) > 1
    return run_id, pod, pids


def test_a_cancel_ends_one_step_of_a_pod_and_its_end_as_the_kubelet_reports_it_the_other(cluster: Cluster) -> None:
    """Cancel ends the code and the daemon that has left its session, while the pod goes on with the step beside it.

    The kernel does not wait for an instance that was killed: the launcher has seen the container's end.
    """
    canceled, pod, pids = _stops(cluster)
    other, _, others = _stops(cluster)
    cluster.api.cancel(canceled, why="enough")
    ended = cluster.end(canceled)
    assert (ended.state, reason_of(ended)) == ("CANCELED", "canceled_by_user")
    assert still_alive(pids) == []
    assert all(map(is_alive, others))
    psutil.Process(cluster.pods.first_process(pod)).kill()
    ended = cluster.end(other)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_ended")
    assert "the kubelet of node node-1 reports that the container ended with exit code 137" in cluster.log("launcher")
    assert still_alive(others) == []


def test_an_eviction_ends_a_step_with_its_true_cause(cluster: Cluster) -> None:
    """SIGTERM, the drain, and nothing of the pod is left."""
    run_id, pod, pids = _stops(cluster)
    cluster.pods.evict(pod)
    ended = cluster.end(run_id)
    assert (ended.state, reason_of(ended)) == ("FAILED", "host_draining")
    assert still_alive(pids, seconds=30) == []


def test_an_instance_that_is_not_wanted_any_more_is_taken_back(cluster: Cluster) -> None:
    """Its run was canceled before the cluster had a machine for it; the cluster's words are in the log."""
    cluster.server.machines = False
    run_id = cluster.start("brief", cluster.ledger())
    launcher = cluster.start_launcher()
    eventually(lambda: "has no machine: 0/1 nodes are available: 1 Insufficient cpu." in launcher.log)
    cluster.api.cancel(run_id)
    eventually(lambda: cluster.server.all("jobs") == [])
    assert "no longer wanted, and has no machine yet" in launcher.log


def test_instances_that_never_serve_do_not_fill_the_cluster(cluster: Cluster) -> None:
    """The next one is started later and later, and the log says how to read that of each."""
    template = cluster.server.objects["podtemplates", "nomaflow-host"]
    template["template"]["spec"]["containers"][0]["command"] = ["/bin/false"]
    run_id = cluster.start("brief", cluster.ledger())
    launcher = cluster.start_launcher()
    eventually(lambda: "the next one is started in 2.4 s" in launcher.log)
    assert "the next one is started in 1.2 s" in launcher.log
    name = cluster.server.all("jobs")[0]["metadata"]["name"]
    assert f"see kubectl logs --namespace default job/{name};" in launcher.log
    assert launcher.log.partition("the next one is started in 2.4 s")[0].count(") is started") == 2
    cluster.api.cancel(run_id)


def test_a_cluster_that_refuses_or_is_away_stops_nothing(cluster: Cluster) -> None:
    """Steps go on, nothing is started twice, and each cause is told once, in words."""
    ledger = cluster.ledger()
    cluster.server.allowed = {("list", "jobs"), ("list", "pods")}
    run_id = cluster.start("brief", ledger, seconds=0.2)
    launcher = cluster.start_launcher()
    eventually(lambda: 'cannot get resource "podtemplates"' in launcher.log)
    assert "forbids the launcher's service account to do that" in launcher.log
    cluster.server.faults.extend([(429, {"retry-after": "1"}, b""), (200, {}, b"<html>")])
    cluster.server.allowed = None
    assert cluster.end(run_id).state == "SUCCEEDED"
    long = cluster.start("brief", ledger, seconds=4)
    ledger.wait_for("start", 2)
    cluster.server.close()
    eventually(lambda: "got no answer" in launcher.log)
    assert cluster.end(long).state == "SUCCEEDED"
    for cause in ("forbids the launcher's", "asks to wait", "something else than that", "got no answer"):
        told = [line.partition("WARNING")[2] for line in launcher.log.splitlines() if cause in line]
        assert len(told) == len(set(told)) > 0  # a connection may break, and the next one be refused
    jobs = len(cluster.server.all("jobs"))
    cluster.server.open()
    assert cluster.end(cluster.start("brief", ledger)).state == "SUCCEEDED"
    assert len(cluster.server.all("jobs")) <= jobs + 1
