"""The objects of Kubernetes in deploy/: valid, hardened, and in step with the product's commands and settings.

No cluster has seen them: what an API server, a kubelet and KEDA make of them is not shown here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_command import run_command
from kubernetes_models import problems
from machine_parts import need
from nomaflow_host.__main__ import _parser as host_parser
from nomaflow_kernel.observing.metrics import KERNEL_METRICS
from nomaflow_project.models.settings_file import SettingsFile
from nomaflow_project.reading.problems import Place
from nomaflow_project.reading.validation import validate

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
GUIDE = (ROOT / "docs" / "on_kubernetes.md").read_text("utf-8")
PARTS = ("base", "keda", "launcher")
FOREIGN = ("Kustomization", "ScaledObject")
"""Kinds that are not Kubernetes' own, of which there is no model."""
Object = dict[str, Any]


def objects(part: str) -> list[Object]:
    """Return the objects of a folder."""
    files = sorted((FOLDER / part).glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text("utf-8"))]


OBJECTS = [each for part in PARTS for each in objects(part)]


def named(kind: str) -> Iterator[Object]:
    """Yield the objects of a kind."""
    return (each for each in OBJECTS if each["kind"] == kind)


def pods() -> Iterator[tuple[str, Object]]:
    """Yield the name and the pod of everything that makes pods."""
    for each in OBJECTS:
        pod = each.get("template") or each.get("spec", {}).get("template")
        if pod:
            yield each["metadata"]["name"], pod


def containers() -> Iterator[tuple[Object, Object]]:
    """Yield each container with its pod's specification."""
    for _, pod in pods():
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            yield pod["spec"], container


@pytest.mark.parametrize("part", PARTS)
def test_objects_are_valid(part: str) -> None:
    """Every field of every object is one that Kubernetes knows, and none is missing."""
    found = [each for each in objects(part) if each["kind"] not in FOREIGN]
    assert found
    assert {each["metadata"]["name"]: wrong for each in found if (wrong := problems(each))} == {}
    found[0]["spec" if "spec" in found[0] else "metadata"]["replica"] = 1
    assert problems(found[0])


@pytest.mark.parametrize("part", PARTS)
def test_kustomize_builds_them(part: str) -> None:
    """Images are replaced everywhere, settings are put in, and the namespace is the same everywhere."""
    need("kubectl")
    done = subprocess.run(["kubectl", "kustomize", FOLDER / part], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert [wrong for each in built if each["kind"] not in FOREIGN for wrong in problems(each)] == []
    images = re.findall(r"image: (\S+)", done.stdout)
    assert images
    assert [image for image in images if "/" not in image or ":" not in image] == []
    spaced = [each for each in built if each["kind"] != "Namespace" and not each["kind"].startswith("Cluster")]
    assert {each["metadata"]["namespace"] for each in spaced} == {"nomaflow"}


def test_nobody_is_root_and_nothing_is_writable() -> None:
    """Every container runs as a user of its own, on a read-only disk, without capabilities, with bounded memory."""
    seen = 0
    for pod, container in containers():
        seen += 1
        user, own = pod["securityContext"], container["securityContext"]
        assert user["runAsNonRoot"], container["name"]
        assert user["runAsUser"] > 0
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        if container["name"] != "host" or "resources" in container:  # the launcher's shapes say it for its pods
            assert container["resources"]["limits"]["memory"]
        assert {"hostPID", "shareProcessNamespace"}.isdisjoint(pod)  # a container's end would prove nothing
        assert pod["automountServiceAccountToken"] == (container["name"] == "launcher")
    assert seen == 7
    assert not re.search(r"^(stringData|data):", _everything(), re.MULTILINE)


def test_secrets_are_made_by_the_guide() -> None:
    """Each secret that a pod mounts is made by a command of docs/on_kubernetes.md, with the keys that are used."""
    volumes = [volume["secret"] for _, pod in pods() for volume in pod["spec"]["volumes"] if "secret" in volume]
    mounted = {secret["secretName"]: secret for secret in volumes}
    assert set(mounted) == {"database", "metrics-token", "join-cleanup", "join-reports", "launcher-token"}
    for name, secret in mounted.items():
        command = re.search(rf"create secret generic {name} (.*)", GUIDE)
        assert command, name
        keys = set(re.findall(r"--from-file=([a-z.]+)=", command[1]))
        assert keys >= {item["key"] for item in secret.get("items", ())}
        for used in re.findall(rf"/run/secrets/{_mount(name)}/([a-z.]+)", _everything()):
            assert used in keys, (name, used)


def _mount(secret: str) -> str:
    paths = {
        Path(mount["mountPath"]).name
        for pod, container in containers()
        for mount in container["volumeMounts"]
        if mount["name"] in {v["name"] for v in pod["volumes"] if v.get("secret", {}).get("secretName") == secret}
    }
    (path,) = paths
    return path


def _everything() -> str:
    return "\n".join(file.read_text("utf-8") for file in sorted(FOLDER.rglob("*.*")))


def test_settings_are_taken_by_the_product() -> None:
    """The files of the ConfigMaps have no unknown key, and no value that is refused."""
    for file in FOLDER.rglob("*.toml"):
        _, found = validate(SettingsFile, tomllib.loads(file.read_text("utf-8")), Place(file.name))
        assert found == [], file
    assert len(list(FOLDER.rglob("*.toml"))) == 2


def test_commands_flags_and_variables_exist() -> None:
    """The command line takes each command, the host each argument, and the kernel's help names each variable."""
    kernel = subprocess.run(
        [sys.executable, "-m", "nomaflow_kernel", "--help"], capture_output=True, text=True, check=True
    )
    for _, container in containers():
        commands = [
            container.get("command", ()),
            container.get("readinessProbe", {}).get("exec", {}).get("command", ()),
        ]
        for command in commands:
            if command and command[0] == "nomaflow":
                assert run_command(*command[1:], "--help", folder=ROOT).code == 0, command
        if container["name"] == "host":
            host_parser()[0].parse_args(container.get("args", []))
        for variable in container.get("env", ()):
            if variable["name"].startswith("NOMAFLOW_"):
                assert f"[{variable['name']}]" in kernel.stdout


def test_commands_of_the_guide_exist() -> None:
    """Each ``nomaflow`` command in the guide is one, with options that it has."""
    lines = re.findall(r"^\$ (?:kubectl .* -- )?(nomaflow .*?)(?: [>|] .*)?$", GUIDE, re.MULTILINE)
    assert len(lines) > 3
    for line in lines:
        words = shlex.split(line)[1:]
        options = [word for word in words if word.startswith("--")]
        names = [word for word in words if re.fullmatch(r"[a-z]+", word)][:2]
        for command in (names, names[:1]):
            done = run_command(*command, "--help", folder=ROOT)
            if done.code == 0:
                break
        assert done.code == 0, line
        assert [option for option in options if option not in done.out] == [], line


def test_a_drain_fits_into_the_grace_period() -> None:
    """A host's pod is given longer to stop than its drain_seconds and the ladder after them take."""
    graces = {name: pod["spec"]["terminationGracePeriodSeconds"] for name, pod in pods()}
    for name, team in (("reports", "reports"), ("nomaflow-host", "cleanup")):
        host = tomllib.loads((ROOT / "deploy" / "teams" / team / "nomaflow.toml").read_text())["host"]
        assert graces[name] >= host.get("drain_seconds", 30) + 60


def test_what_refers_to_pods_finds_them() -> None:
    """Each selector picks the pods of one name, and each named port is theirs."""
    labels = {pod["metadata"]["labels"]["app.kubernetes.io/name"]: pod for _, pod in pods()}
    selectors = re.findall(
        r"(?:selector|matchLabels): \{(?:matchLabels: \{)?app.kubernetes.io/name: ([a-z]+)", _everything()
    )
    assert len(selectors) > 6
    assert set(selectors) <= set(labels)
    for each in (*named("Service"), *named("NetworkPolicy")):
        spec = each["spec"]
        chosen = spec.get("selector") or spec["podSelector"].get("matchLabels", {})
        rules = [port for rule in spec.get("ingress", ()) for port in rule["ports"]]
        for port in (*spec.get("ports", ()), *rules):
            pod = labels[chosen["app.kubernetes.io/name"]]
            ports = {p["name"]: p["containerPort"] for p in pod["spec"]["containers"][0]["ports"]}
            name = port.get("name", port["port"])
            assert name in ports
            assert port["port"] in (name, ports[name])


def test_images_are_those_that_are_built() -> None:
    """Each image that a kustomization replaces is used, and tagged so by the guide."""
    used = {container["image"] for _, container in containers()} - {"docker.io/library/postgres:17-alpine"}
    replaced = {image["name"]: image for each in named("Kustomization") for image in each["images"]}
    assert set(replaced) == used
    for image in replaced.values():
        assert f"--tag {image['newName']}:{image['newTag']} " in GUIDE


def test_keda_scales_by_what_waits_and_runs() -> None:
    """The query names metrics that there are, and the Deployment that is scaled has no number of its own."""
    (scaled,) = named("ScaledObject")
    target = next(d for d in named("Deployment") if d["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in target["spec"]
    (trigger,) = scaled["spec"]["triggers"]
    metrics = set(re.findall(r"nomaflow_[a-z_]+", trigger["metadata"]["query"]))
    assert metrics == {"nomaflow_attempts_waiting", "nomaflow_host_attempts", "nomaflow_leader"}
    assert metrics <= {metric.name for metric in KERNEL_METRICS}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
