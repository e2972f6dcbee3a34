"""The container files in deploy/: linted, valid, and in step with the product's needs."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from machine_parts import need

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEAMS = sorted(folder.name for folder in (DEPLOY / "teams").iterdir())


@pytest.fixture(name="compose")
def read_compose() -> dict[str, Any]:
    """Read the compose file, its anchors resolved."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def valid(compose: dict[str, Any]) -> PyCompose:
    """Return a compose file as its specification reads it.

    :raises ValueError: for an unknown key, a value of another form, or a reference to nothing
    """
    own = {name: value for name, value in compose.items() if not name.startswith("x-")}
    parsed = PyCompose.from_yaml(yaml.safe_dump(own))
    parsed.validate()
    return parsed


def test_the_containerfile_is_linted() -> None:
    """hadolint finds nothing in it."""
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Containerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_is_valid(compose: dict[str, Any]) -> None:
    """The specification's own parser takes every key, value and reference of it, and does not take a mistake."""
    assert set(valid(compose).service_names()) == {"postgres", "kernel", *TEAMS}
    compose["services"]["kernel"]["networks"] = ["elsewhere"]
    with pytest.raises(ValueError, match="elsewhere"):
        valid(compose)


def test_images_are_made_of_what_is_there() -> None:
    """Each COPY of the Containerfile finds its source, and the ignore file does not keep it out."""
    text = (DEPLOY / "Containerfile").read_text()
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in ignored if line.startswith("!")]
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)]
    sources = [source.replace("${TEAM}", team) for words in copied for source in words for team in TEAMS]
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) or source.startswith(pattern + "/") for pattern in let_through)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(sources)


def test_nobody_is_root_and_nothing_is_open(compose: dict[str, Any]) -> None:
    """Our images run as a user of their own and on a read-only disk, and no port is open beyond this machine."""
    text = (DEPLOY / "Containerfile").read_text()
    for stage in ("kernel", "host"):
        last = text.split(f" AS {stage}\n")[1].split("\nFROM ")[0]
        assert "\nUSER 10001:10001\n" in last
        assert "\nSTOPSIGNAL SIGTERM\n" in last
        assert re.search(r"^ENTRYPOINT \[.*\]$", last, re.MULTILINE)
    for name in ("kernel", *TEAMS):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["init"]
        assert service["cap_drop"] == ["ALL"]
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert all("file" in secret for secret in compose["secrets"].values())
    assert not re.search(r"(PASSWORD|TOKEN|KEY): (?!/run/secrets/)", (DEPLOY / "compose.yaml").read_text())


@pytest.mark.parametrize("team", TEAMS)
def test_a_drain_fits_into_the_grace_period(compose: dict[str, Any], team: str) -> None:
    """A team's container is given longer to stop than its drain_seconds and the ladder after them take."""
    host = tomllib.loads((DEPLOY / "teams" / team / "nomaflow.toml").read_text())["host"]
    service = compose["services"][team]
    assert service["build"]["args"] == {"TEAM": team}
    assert host["name"] == team
    assert int(service["stop_grace_period"].removesuffix("s")) >= host.get("drain_seconds", 30) + 60


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path, compose: dict[str, Any]) -> None:
    """The script makes every secret of the compose file in a folder of its owner alone, and replaces none.

    The containers' user must be able to read the join strings, and its owner to write them, so they change no owner.
    """
    need("openssl")
    folder = tmp_path / "secrets"
    make = ["sh", str(DEPLOY / "make-secrets.sh"), str(folder)]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in folder.iterdir()}
    assert made == {Path(secret["file"]).name for secret in compose["secrets"].values()}
    modes = {name: stat.S_IMODE(os.stat(folder / name).st_mode) for name in made}
    joining = {name for name in made if name.startswith("join-")}
    assert modes == {name: 0o644 if name in joining else 0o600 for name in made}
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert re.findall(r"chown 10001:10001 '(.*)'", done.stdout) == [f"{folder}/pgpass"] * 2
    assert len((folder / "postgres-password").read_text().strip()) >= 32
    strings = (DEPLOY / "make-join-strings.sh").read_text()
    assert [team for team in TEAMS if f"join-{team}" not in made or f" {team}" not in strings] == []
    before = {name: (folder / name).read_bytes() for name in made}
    assert subprocess.run(make, capture_output=True, check=False).returncode != 0
    assert {name: (folder / name).read_bytes() for name in made} == before
