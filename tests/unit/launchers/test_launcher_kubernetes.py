"""Kubernetes as an engine, on a small API server: what is asked of it, and what its faults become."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kubernetes_models import problems
from kubernetes_server import KubernetesServer, Object
from machine_parts import need
from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.engines.kubernetes.cluster import Kubernetes
from nomaflow_launchers.planning import Order
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape
from waiting import eventually

STORE = "5f0c" * 8
SHAPE = LauncherShape(name="gpu", cpu=2.5, memory_mb=4000, gpus=1, labels={"zone": "eu", "price": "$(HOME)"})
ORDER = Order(store_id=STORE, host="team_a", shape=SHAPE)
TEMPLATE: Object = {
    "metadata": {"name": "nomaflow-host"},
    "template": {
        "metadata": {"labels": {"team": "a"}},
        "spec": {
            "serviceAccountName": "nomaflow-host",
            "terminationGracePeriodSeconds": 45,
            "containers": [
                {"name": "side", "image": "side"},
                {
                    "name": "host",
                    "image": "hosts/a:7",
                    "args": ["--kernel", "tls://kernel:7434"],
                    "resources": {"limits": {"ephemeral-storage": "1Gi"}},
                },
            ],
        },
    },
}


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    """An API server with the template."""
    made = KubernetesServer()
    made.put("podtemplates", {**TEMPLATE, "metadata": {"name": "nomaflow-host"}})
    yield made
    made.close()


@pytest.fixture
async def cluster(server: KubernetesServer) -> AsyncIterator[Kubernetes]:
    """The engine, by way of kubectl proxy."""
    made = _cluster(server)
    yield made
    await made.aclose()


def _cluster(server: KubernetesServer, **more: object) -> Kubernetes:
    section = LauncherSection(engine="kubernetes", hosts=("team_a",), api=server.url, walltime_seconds=900, **more)  # type: ignore[arg-type]  # of the test
    return Kubernetes(section, project=Path("/nowhere"), environ={})


async def test_a_start_is_one_job_that_is_never_started_twice(server: KubernetesServer, cluster: Kubernetes) -> None:
    """The organisation's template is kept; the shape's amounts, the flags and the labels are put in."""
    engine_id = await cluster.start(ORDER)
    (job,) = server.all("jobs")
    assert problems(job) == []
    assert engine_id == f"{job['metadata']['name']}.{job['metadata']['uid']}"
    assert job["metadata"]["labels"]["nomaflow.io/host"] == "team_a"
    template = job["spec"].pop("template")
    assert job["spec"] == {
        "suspend": False, "completions": 1, "parallelism": 1, "backoffLimit": 0, "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": 3600,
    }  # fmt: skip
    assert template["metadata"]["labels"] == {"team": "a", **job["metadata"]["labels"]}
    spec = template["spec"]
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 900 + 300)
    assert (spec["serviceAccountName"], spec["terminationGracePeriodSeconds"]) == ("nomaflow-host", 45)
    side, host = spec["containers"]
    assert side == {"name": "side", "image": "side"}
    assert host["image"] == "hosts/a:7"
    assert host["args"][:4] == ["--kernel", "tls://kernel:7434", "--name", "team_a"]
    assert "--state-dir /tmp/nomaflow --labels zone=eu,price=$$(HOME)," in " ".join(host["args"])
    assert host["resources"] == {
        "requests": {"cpu": "2.5", "memory": "4000Mi", "nvidia.com/gpu": "1"},
        "limits": {"ephemeral-storage": "1Gi", "memory": "4000Mi", "nvidia.com/gpu": "1"},
    }
    (launched,) = await cluster.listed(STORE)
    assert (launched.engine_id, launched.host, launched.shape) == (engine_id, "team_a", "gpu")
    assert launched.running_seconds is not None
    assert 0 <= launched.running_seconds < 60
    assert await cluster.listed("0" * 32) == []
    assert cluster.log_of(engine_id) == f"kubectl logs --namespace default job/{job['metadata']['name']}"
    assert server.all("secrets") == []


async def test_the_same_start_asked_for_twice_is_one_job(server: KubernetesServer, cluster: Kubernetes) -> None:
    """Two launchers at once, and one whose answer was lost; the name of one that has ended is left alone."""
    other = _cluster(server)
    assert await cluster.start(ORDER) == await other.start(ORDER)
    server.lost = 1
    with pytest.raises(EngineError, match="got no answer"):
        await cluster.start(ORDER)
    assert len(server.all("jobs")) == 2
    assert len(await other.listed(STORE)) == 2
    for job in server.all("jobs"):
        server.change("jobs", job["metadata"]["name"], _fail)
    assert await cluster.listed(STORE) == []
    third = await cluster.start(ORDER)
    assert [each.engine_id for each in await cluster.listed(STORE)] == [third]
    await other.aclose()


async def test_an_instance_for_one_attempt_has_its_image_and_is_found_by_its_key(
    server: KubernetesServer, cluster: Kubernetes
) -> None:
    """Another attempt of the same shape is another job; the same one asked for twice by two launchers is one."""
    key, other = "run_01m3250v0024tpa249k98k9cq3/it's $(HOME)/1", _cluster(server)
    own = replace(ORDER, attempt_key=key, image="team/train:2")
    assert await cluster.start(own) == await other.start(own)
    await cluster.start(replace(own, attempt_key=key[:-1] + "2"))
    job = server.all("jobs")[0]
    assert problems(job) == []
    host = job["spec"]["template"]["spec"]["containers"][1]
    assert host["image"] == "team/train:2"
    assert host["args"][host["args"].index("--for-attempt") + 1] == key.replace("$", "$$")
    assert {each.attempt_key for each in await cluster.listed(STORE)} == {key, key[:-1] + "2"}
    await other.aclose()


def _fail(job: Object) -> None:
    job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}


async def test_a_join_string_is_in_a_secret_that_goes_with_its_job(
    server: KubernetesServer, cluster: Kubernetes
) -> None:
    """It is in no argument, variable or label, and whoever may read jobs does not see it."""
    await cluster.start(replace(ORDER, join="nfj1.secret"))
    (job,), (pod,), (secret,) = server.all("jobs"), server.all("pods"), server.all("secrets")
    assert problems(secret) == problems(job) == []
    assert "nfj1.secret" not in f"{job}{pod}"
    assert secret["stringData"] == {"join": "nfj1.secret"}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    host = pod["spec"]["containers"][1]
    assert "--join /run/nomaflow/join" in " ".join(host["args"])
    (mount,) = host["volumeMounts"]
    assert [each["name"] for each in pod["spec"]["volumes"]] == [mount["name"]]
    assert pod["spec"]["volumes"][0]["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o440}
    (launched,) = await cluster.listed(STORE)
    await cluster.end(launched.engine_id, only_waiting=False)
    assert server.all("secrets") == []


@pytest.mark.parametrize("lacks", ["secrets", "jobs"])
async def test_a_start_that_is_broken_off_starts_nothing(
    server: KubernetesServer, cluster: Kubernetes, lacks: str
) -> None:
    """A job without its secret has no pod; the next look deletes it, and does not count it as coming."""
    server.allowed = {("create", "jobs"), ("create", "secrets"), ("patch", "jobs"), ("get", "podtemplates")}
    server.allowed -= {("create", "secrets")} if lacks == "secrets" else {("patch", "jobs")}
    with pytest.raises(EngineError, match="forbids"):
        await cluster.start(replace(ORDER, join="nfj1.secret"))
    assert len(server.all("jobs")) == 1
    server.allowed = None
    assert await cluster.listed(STORE) == []
    assert server.all("jobs") + server.all("pods") + server.all("secrets") == []


async def test_what_another_launcher_has_begun_is_left_to_it(server: KubernetesServer, cluster: Kubernetes) -> None:
    """Launchers of other hosts share the namespace: a job of theirs may lack its secret for a moment."""
    server.allowed = {("create", "jobs"), ("get", "podtemplates")}
    with pytest.raises(EngineError, match="forbids"):
        await cluster.start(replace(ORDER, host="team_b", join="nfj1.secret"))
    server.allowed = None
    assert [each.host for each in await cluster.listed(STORE)] == ["team_b"]
    assert len(server.all("jobs")) == 1


async def test_the_end_of_a_pod_is_witnessed(server: KubernetesServer, cluster: Kubernetes) -> None:
    """By its kubelet or its node; a launcher that may not read nodes has the kubelet's word alone."""
    engine_id = await cluster.start(ORDER)
    (pod,) = server.all("pods")
    labels = {"launcher.pod": pod["metadata"]["uid"]}
    node = server.put("nodes", {"metadata": {"name": "node-1"}, "spec": {}})
    assert await cluster.witness(engine_id, labels) == ""
    node["spec"]["taints"] = [{"key": "node.kubernetes.io/out-of-service"}]
    assert await cluster.witness(engine_id, labels) == "node node-1 is marked as out of service"
    server.objects.pop(("nodes", "node-1"))
    assert await cluster.witness(engine_id, labels) == "node node-1 was deleted from the cluster"
    assert await cluster.witness(engine_id, {"launcher.pod": "another"}) == ""
    server.allowed = {("list", "pods")}
    assert await cluster.witness(engine_id, labels) == ""
    ended = {"exitCode": 137, "reason": "OOMKilled", "containerID": "c://1", "finishedAt": "2026-11-26T20:00:00Z"}
    state = [{"name": "host", "state": {"terminated": ended}}]
    server.change("pods", pod["metadata"]["name"], lambda one: one["status"].update(containerStatuses=state))
    assert "ended with exit code 137 (OOMKilled)" in await cluster.witness(engine_id, labels)
    assert await cluster.witness(engine_id, {"launcher.pod": "another"}) == ""
    server.change("pods", pod["metadata"]["name"], lambda one: one["spec"].pop("nodeName"))
    assert await cluster.witness(engine_id, labels) == ""  # it never had a node
    server.objects.pop(("pods", pod["metadata"]["name"]))
    assert await cluster.witness(engine_id, labels) == ""


async def test_a_page_that_is_not_found_is_no_deleted_node(server: KubernetesServer, cluster: Kubernetes) -> None:
    """A 404 page of something before the API server is an error, and no evidence."""
    engine_id = await cluster.start(ORDER)
    labels = {"launcher.pod": server.all("pods")[0]["metadata"]["uid"]}
    listed = json.dumps({"items": server.all("pods")}).encode()
    server.faults.extend([(200, {}, listed), (404, {}, b"<html>no such page</html>")])
    with pytest.raises(EngineError, match="HTTP status 404"):
        await cluster.witness(engine_id, labels)


async def test_the_role_in_deploy_is_what_the_launcher_needs(server: KubernetesServer, cluster: Kubernetes) -> None:
    """Each right is used, and no other is."""
    engine_id = await cluster.start(replace(ORDER, join="nfj1.secret"))
    await _exists(server)
    await cluster.listed(STORE)
    await cluster.witness(engine_id, {"launcher.pod": server.all("pods")[0]["metadata"]["uid"]})
    await cluster.end(engine_id, only_waiting=False)
    account = Path(__file__).parents[3] / "deploy" / "kubernetes" / "launcher" / "account.yaml"
    roles = [each for each in yaml.safe_load_all(account.read_text()) if each["kind"].endswith("Role")]
    rules = [rule for role in roles for rule in role["rules"]]
    granted = {(verb, kind) for rule in rules for kind in rule["resources"] for verb in rule["verbs"]}
    assert set(server.calls) == granted


async def _exists(server: KubernetesServer) -> None:
    """Let another launcher make the same start."""
    other = _cluster(server)
    await other.start(ORDER)
    await other.aclose()


async def test_a_list_of_several_parts_is_read_whole(server: KubernetesServer, cluster: Kubernetes) -> None:
    """Half a list would start instances that are there already."""
    started = {await cluster.start(ORDER) for _ in range(7)}
    assert {each.engine_id for each in await cluster.listed(STORE)} == started
    server.faults.extend([(200, {}, b'{"items": [], "metadata": {"continue": "3"}}'), (500, {}, b"{}")])
    with pytest.raises(EngineError, match="HTTP status 500"):
        await cluster.listed(STORE)


async def test_what_is_not_the_end_of_a_job_leaves_it_listed(server: KubernetesServer, cluster: Kubernetes) -> None:
    """A condition that is met and no end, an end that is not met, and a pod that was taken from its job do not."""
    engine_id = await cluster.start(ORDER)
    (job,), (pod,) = server.all("jobs"), server.all("pods")
    conditions = [{"type": "Suspended", "status": "True"}, {"type": "Failed", "status": "False"}]
    server.change("jobs", job["metadata"]["name"], lambda found: found.update(status={"conditions": conditions}))
    server.change("pods", pod["metadata"]["name"], lambda found: found["metadata"].pop("ownerReferences"))
    (launched,) = await cluster.listed(STORE)
    assert (launched.engine_id, launched.running_seconds) == (engine_id, None)
    taken_back = {"deletionTimestamp": "2026-11-26T20:00:00Z"}
    server.change("jobs", job["metadata"]["name"], lambda found: found["metadata"].update(taken_back))
    assert await cluster.listed(STORE) == []


async def test_an_end_is_of_that_job_and_no_successor(server: KubernetesServer, cluster: Kubernetes) -> None:
    """One that has got a machine is left alone where only a waiting one is meant; one that is gone is no error."""
    engine_id = await cluster.start(ORDER)
    await cluster.end(engine_id, only_waiting=True)
    assert len(server.all("jobs")) == 1
    await cluster.end(f"{engine_id}0", only_waiting=False)
    assert len(server.all("jobs")) == 1
    await cluster.end(engine_id, only_waiting=False)
    await cluster.end(engine_id, only_waiting=False)
    assert server.all("jobs") + server.all("pods") == []
    server.machines = False
    engine_id = await cluster.start(ORDER)
    (launched,) = await cluster.listed(STORE)
    assert launched.running_seconds is None
    await cluster.end(engine_id, only_waiting=True)
    assert server.all("jobs") == []


async def test_a_pod_that_cannot_run_says_why_once(
    server: KubernetesServer, cluster: Kubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    """The cluster's own words are in the launcher's log, and cannot steer a terminal."""
    server.machines = False
    await cluster.start(ORDER)
    for _ in range(2):
        await cluster.listed(STORE)
    assert caplog.text.count("has no machine: 0/1 nodes are available: 1 Insufficient cpu.") == 1
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image\n\x1b[2J"}}
    (pod,) = server.all("pods")
    server.change("pods", pod["metadata"]["name"], lambda found: found["status"].update(
        containerStatuses=[{"name": "side", "state": {"running": {}}}, {"name": "host", "state": waiting}],
        conditions=[]))  # fmt: skip
    await cluster.listed(STORE)
    assert "waits: ImagePullBackOff: no such image\\x0a\\x1b[2J" in caplog.text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((401, {}, b'{"message": "Unauthorized"}'), "does not know the launcher's token: .*: Unauthorized"),
        ((403, {}, b'{"message": "jobs.batch is forbidden"}'), "forbids .* to do that: .*: jobs.batch is forbidden"),
        ((429, {"retry-after": "7"}, b"slow down"), "asks to wait: .*: HTTP status 429"),
        ((500, {}, b"\xff\xfe"), "refuses: .*: HTTP status 500"),
        ((302, {"location": "http://127.0.0.1:1/"}, b""), "refuses: .*: HTTP status 302"),
        ((200, {}, b"<html>login</html>"), "answered with something else than that: JSON is malformed"),
        ((200, {}, b""), "answered with something else than that"),
        ((200, {}, b'{"kind": "Status"}'), "answered with something else than that: .*`items`"),
        (
            (200, {}, b'{"items": [{"metadata": {"name": 7}}]}'),
            "answered with something else than that: Expected `str`",
        ),
        ((200, {}, b'{"x": ' + b"[" * 100_000), "answered with something else than that"),
    ],
    ids=["401", "403", "429", "500", "302", "a page", "nothing", "no list", "other types", "deep"],
)
async def test_an_answer_that_is_none_is_told_in_words(
    server: KubernetesServer, cluster: Kubernetes, fault: tuple[int, dict[str, str], bytes], words: str
) -> None:
    """Such an answer is not taken for an empty list; the next turn asks again."""
    server.faults.append(fault)
    with pytest.raises(EngineError, match=words) as raised:
        await cluster.listed(STORE)
    assert raised.value.retry_after == (7 if fault[0] == 429 else 0)
    assert "\n" not in str(raised.value)
    assert await cluster.listed(STORE) == []


async def test_an_api_server_that_is_away_is_told_in_words(server: KubernetesServer, cluster: Kubernetes) -> None:
    """Its address is named; when it is back, all is as before."""
    engine_id = await cluster.start(ORDER)
    server.close()
    with pytest.raises(EngineError, match=f"at {server.url} got no answer"):
        await cluster.listed(STORE)
    server.open()
    assert [each.engine_id for each in await cluster.listed(STORE)] == [engine_id]


async def test_a_template_that_lacks_something_is_told_in_words(server: KubernetesServer) -> None:
    """One that does not exist, and one without the container; the container alone is enough."""
    away = _cluster(server, pod_template="other")
    with pytest.raises(EngineError, match='podtemplates "other" not found'):
        await away.start(ORDER)
    other = server.put("podtemplates", {"metadata": {"name": "other"}, "template": {"spec": {"containers": []}}})
    with pytest.raises(EngineError, match="no container of the name 'host'"):
        await away.start(ORDER)
    other["template"]["spec"]["containers"] = [{"name": "host"}]
    assert await away.start(ORDER)
    own = replace(ORDER, shape=replace(SHAPE, pod_template="nomaflow-host"))
    assert await away.start(own)
    await away.aclose()


async def test_ages_are_by_the_clusters_clock(server: KubernetesServer, cluster: Kubernetes) -> None:
    """A launcher whose own clock is wrong takes no instance for one that is stuck."""
    await cluster.start(ORDER)
    (pod,) = server.all("pods")
    server.change(
        "pods", pod["metadata"]["name"], lambda found: found["status"].update(startTime="2001-01-01T00:00:00Z")
    )
    (launched,) = await cluster.listed(STORE)
    assert launched.running_seconds is not None
    assert launched.running_seconds > 700_000_000


async def test_kubectl_proxy_may_listen_on_a_socket(tmp_path: Path, server: KubernetesServer) -> None:
    """No other user can use it then, or take its place while it is away: the launcher sends join strings there."""
    need("kubectl")
    socket = tmp_path / "kube.sock"
    proxy = subprocess.Popen(
        ["kubectl", f"--server={server.url}", "proxy", f"--unix-socket={socket}"], env={"HOME": str(tmp_path)}
    )
    try:
        await eventually(socket.exists)
        section = LauncherSection(engine="kubernetes", hosts=("team_a",), api=f"unix:{socket}")
        async with contextlib.aclosing(Kubernetes(section, project=tmp_path, environ={})) as cluster:
            engine_id = await cluster.start(replace(ORDER, join="nfj1.secret"))
            assert [each.engine_id for each in await cluster.listed(STORE)] == [engine_id]
        assert [each["stringData"] for each in server.all("secrets")] == [{"join": "nfj1.secret"}]
        assert socket.stat().st_mode & 0o077 == 0
    finally:
        proxy.kill()
        proxy.wait()
