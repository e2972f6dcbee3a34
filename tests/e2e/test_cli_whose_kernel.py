"""The kernel that a command asks if its project has none, and lists that are narrowed down to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from project_system import ProjectSystem, open_system

from real_system import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

JOBS = """
[[jobs]]
id = "tagged"
tags = ["nightly", "billing"]
steps = [{ callable = "team.code:count" }]
"""


@pytest.fixture(scope="module")
def central(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel on a socket and on TCP, with a host of its own project."""
    for opened in open_system(tmp_path_factory.mktemp("central")):
        opened.write(JOBS)
        (opened.project / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        opened.start_kernel("--address", "unix:,127.0.0.1:0")
        opened.start_host()
        eventually(opened.jobs)
        yield opened


def _project(folder: Path, *lines: str) -> ProjectSystem:
    folder.mkdir()
    (folder / "nomaflow.toml").write_text("[host]\n" + "\n".join(lines) + "\n")
    (folder / "jobs.toml").write_text("")
    return ProjectSystem(project=folder)


def _addresses(central: ProjectSystem) -> tuple[str, str]:
    """Return the socket and the port that the kernel listens on."""
    [line] = [line for line in central.log("kernel").splitlines() if "serving on" in line]
    unix, _, tcp = line.partition("serving on ")[2].partition(", store")[0].partition(", ")
    return unix, tcp


def test_a_command_asks_the_kernel_that_the_host_dials(central: ProjectSystem, tmp_path: Path) -> None:
    """A command asks the host's kernel if the project has no kernel or only a dead one's address; an option wins."""
    unix, _ = _addresses(central)
    team = _project(tmp_path / "t", f'kernel = "{unix}"')
    assert [job["job_id"] for job in team.ask("jobs")["jobs"]] == ["tagged"]
    (team.project / ".nomaflow").mkdir()
    (team.project / ".nomaflow" / "address").write_text(f"unix:{tmp_path}/gone.sock\n")
    assert [job["job_id"] for job in team.ask("jobs")["jobs"]] == ["tagged"]
    assert "elsewhere.sock" in team.cli("jobs", "--address", f"unix:{tmp_path}/elsewhere.sock", code=5).err
    assert "cannot be read" in _project(tmp_path / "b", "kernel = ").cli("jobs", code=2).err


def test_the_host_s_token_is_not_a_client_s(central: ProjectSystem, tmp_path: Path) -> None:
    """The command says on TCP that the clients' token is missing, and works with it."""
    _, tcp = _addresses(central)
    tokens = central.project / ".nomaflow"
    team = _project(tmp_path / "t", f'kernel = "{tcp}"', f'token_file = "{tokens / "host-token"}"')
    error = team.cli("jobs", code=2).err
    assert "[host] token_file is only for the host" in " ".join(error.split())
    assert "--token-file" in error
    found = team.ask("jobs", "--token-file", str(tokens / "token"))
    assert [job["job_id"] for job in found["jobs"]] == ["tagged"]


def test_a_tag_that_no_job_has(central: ProjectSystem) -> None:
    """The answer to an unknown tag names the near tags, and does not say that no host has brought any jobs."""
    assert central.cli("jobs", "--tag", "nihgtly").out.split(";") == [
        "no job has the tag 'nihgtly'",
        " there is nightly\n",
    ]
    assert "there are billing, nightly" in central.cli("jobs", "--tag", "zzz").out
    assert "no job of host 'team' has the tag" in central.cli("jobs", "--host", "team", "--tag", "x").out
    assert central.cli("jobs", "--host", "tema").out == "no job belongs to host 'tema'; there is team\n"
    assert central.ask("jobs", "--tag", "zzz")["jobs"] == []
