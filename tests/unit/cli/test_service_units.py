"""The units that ``nomaflow service`` writes: accepted by systemd, written once, never over somebody's edits."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_command import Command
from machine_parts import need
from nomaflow_cli.errors import CliError
from nomaflow_cli.service.systemd import Places, require_systemd
from nomaflow_host.project.project import Project

KERNEL_UNIT, CONSOLE_UNIT = "nomaflow-kernel.service", "nomaflow-console.service"
HOST_UNIT = "nomaflow-host@team.service"
ODD_NAME = 'it\'s a "team" of 100% $HOME'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make another file system to write to."""
    (tmp_path / "image").mkdir()
    return tmp_path / "image"


@pytest.fixture
def project(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Make a project outside the temporary directories, which services do not share; of an odd name where asked for."""
    with tempfile.TemporaryDirectory(prefix="nomaflow-test-", dir=Path.home()) as folder:
        made = Path(folder) / getattr(request, "param", "team")
        made.mkdir()
        (made / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        yield made


def places(variant: str, root: Path) -> Places:
    """Return the places of a variant below a root."""
    return Places.of({"XDG_CONFIG_HOME": "/home/ann/.config"}, user=bool(variant), root=root)


def verified(unit: Path, *, variant: str, runtime: Path) -> str:
    """Return what systemd finds wrong with a unit, empty for nothing."""
    need("systemd-analyze")
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{unit.parent}:", "XDG_RUNTIME_DIR": str(runtime)}
    command = ["systemd-analyze", *filter(None, [variant]), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.stderr or done.returncode == 0
    return done.stderr


@pytest.mark.parametrize("variant", ["", "--user"])
@pytest.mark.parametrize("project", ["team", ODD_NAME], indirect=True)
async def test_systemd_accepts_every_variant(
    command: Command, project: Path, root: Path, tmp_path: Path, variant: str
) -> None:
    """systemd-analyze finds no mistake, no unknown key and no missing program, whatever the project is called."""
    options = [variant] if variant else []
    done = await command(
        "service", "install", str(project), "--root", str(root), *options, env={"XDG_CONFIG_HOME": "/home/ann/.config"}
    )
    assert done.code == 0, done.err
    units = places(variant, root).on_disk(places(variant, root).units)
    for unit in (KERNEL_UNIT, HOST_UNIT, CONSOLE_UNIT):
        assert verified(units / unit, variant=variant, runtime=tmp_path) == ""
    assert ("User=" in (units / KERNEL_UNIT).read_text()) == (variant == "")


async def test_a_mistake_in_a_unit_is_found(command: Command, project: Path, root: Path, tmp_path: Path) -> None:
    """The check of the units can fail: a key that systemd does not know is one of the things it names."""
    await command("service", "install", str(project), "--root", str(root))
    unit = root / "etc/systemd/system" / KERNEL_UNIT
    unit.write_text(unit.read_text().replace("KillMode=", "KillMod="))
    assert "Unknown key 'KillMod'" in verified(unit, variant="", runtime=tmp_path)


async def test_installing_twice_changes_nothing(command: Command, project: Path, root: Path) -> None:
    """A second time every unit is unchanged, settings are the operator's own, and an older unit is updated."""
    install = ("service", "install", str(project), "--root", str(root), "-o", "json")
    first, again = await command(*install), await command(*install)
    names = [(KERNEL_UNIT, 0o644), ("kernel.env", 0o600), ("nomaflow-host@.service", 0o644), ("10-project.conf", 0o644)]
    paths = [Path(one["path"]) for one in json.loads(first.out)["files"]]
    assert [(p.name, (root / p.relative_to("/")).stat().st_mode & 0o777) for p in paths] == [
        *names,
        ("team.env", 0o600),
        (CONSOLE_UNIT, 0o644),
        ("console.env", 0o600),
    ]
    assert [one["outcome"] for one in json.loads(first.out)["files"]] == ["written"] * 7
    assert [one["outcome"] for one in json.loads(again.out)["files"]] == [
        "unchanged", "kept", "unchanged", "unchanged", "kept", "unchanged", "kept",
    ]  # fmt: skip
    settings = root / "etc/nomaflow/hosts/team.env"
    settings.write_text("SECRET=mine\n")
    other = await command(*install, "--run-as", "nobody")
    assert [one["outcome"] for one in json.loads(other.out)["files"]] == [
        "updated", "kept", "unchanged", "updated", "kept", "updated", "kept",
    ]  # fmt: skip
    assert settings.read_text() == "SECRET=mine\n"
    assert json.loads(other.out)["next"] == [f"systemctl --root={root} enable {KERNEL_UNIT} {HOST_UNIT} {CONSOLE_UNIT}"]


async def test_an_edited_unit_is_shown_and_not_replaced(command: Command, project: Path, root: Path) -> None:
    """An edited unit is not written, the difference is shown, and --force replaces it."""
    install = ("service", "install", str(project), "--root", str(root))
    await command(*install)
    unit = root / "etc/systemd/system" / KERNEL_UNIT
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=7"))
    for name in (HOST_UNIT + ".d/10-project.conf", "nomaflow-host@.service"):
        (unit.parent / name).unlink()
    refused = await command(*install)
    assert refused.code == 1
    assert "nothing was written" in refused.err
    assert "-WatchdogSec=7" in refused.err
    assert "+WatchdogSec=30" in refused.err
    assert "systemctl edit nomaflow-kernel.service" in refused.err
    assert not (unit.parent / "nomaflow-host@.service").exists()
    assert (await command("service", "uninstall", "--root", str(root))).code == 1
    assert "WatchdogSec=7" in unit.read_text()
    assert (await command(*install, "--force")).code == 0
    assert "WatchdogSec=30" in unit.read_text()


async def test_a_kernel_unit_is_not_taken_from_another_project(command: Command, project: Path, root: Path) -> None:
    """A machine has one: it is named, nothing is written, and --only host or --force is the way on."""
    await command("service", "install", str(project), "--root", str(root))
    unit = root / "etc/systemd/system" / KERNEL_UNIT
    before = unit.read_text()
    other = project.parent / "other"
    other.mkdir()
    (other / "nomaflow.toml").write_text('[host]\nname = "other"\n')
    refused = await command("service", "install", str(other), "--root", str(root))
    assert (refused.code, str(project) in refused.err, "--only host" in refused.err) == (1, True, True), refused.err
    assert unit.read_text() == before
    assert not (unit.parent / "nomaflow-host@other.service.d").exists()
    assert (await command("service", "install", str(other), "--root", str(root), "--only", "host")).code == 0
    assert (await command("service", "install", str(other), "--root", str(root), "--force")).code == 0
    assert str(other) in unit.read_text()


async def test_a_second_team_is_added_and_taken_away(command: Command, project: Path, root: Path) -> None:
    """Each team has its own project, interpreter and settings; taking one away leaves the rest and all settings."""
    await command("service", "install", str(project), "--root", str(root))
    other = project.parent / "other"
    other.mkdir()
    (other / "jobs.toml").touch()
    added = await command("service", "install", str(other), "--only", "host", "--root", str(root))
    assert added.code == 0, added.err
    assert (
        f'--project "{other}"'
        in (root / "etc/systemd/system/nomaflow-host@other.service.d/10-project.conf").read_text()
    )
    gone = await command("service", "uninstall", "other", "--root", str(root))
    assert gone.code == 0, gone.err
    left = {str(path.relative_to(root / "etc")) for path in root.rglob("*") if path.is_file()}
    assert left == {
        "systemd/system/nomaflow-kernel.service",
        "systemd/system/nomaflow-host@.service",
        "systemd/system/nomaflow-host@team.service.d/10-project.conf",
        "systemd/system/nomaflow-console.service",
        "nomaflow/kernel.env",
        "nomaflow/console.env",
        "nomaflow/hosts/team.env",
        "nomaflow/hosts/other.env",
    }
    assert (await command("service", "uninstall", "--root", str(root))).code == 0
    assert not list(root.rglob("nomaflow-*"))


async def test_printing_writes_nothing(command: Command, project: Path, root: Path) -> None:
    """The files are shown with --print, and none is written."""
    done = await command("service", "install", str(project), "--print", "--root", str(root))
    assert done.code == 0
    assert "\nType=notify\n" in done.out
    assert "\nKillMode=mixed\n" in done.out
    assert not list(root.iterdir())


async def test_what_cannot_be_installed_is_refused(command: Command, project: Path, tmp_path: Path) -> None:
    """A project that services could not see, a wrong name and a place that cannot be written are named."""
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        unseen = await command("service", "install", temporary, "--print")
    assert (unseen.code, "temporary directory" in unseen.err) == (2, True)
    misnamed = await command("service", "install", str(project), "--print", "--name", "../../team")
    assert (misnamed.code, "'../../team' is not a valid host name" in misnamed.err) == (2, True)
    lost = await command("service", "install", str(project), "--print", "--user", "--run-as", "nobody")
    assert (lost.code, "--user and --run-as cannot be used together" in lost.err) == (2, True)
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "etc").write_text("a file")
    full = await command("service", "install", str(project), "--root", str(tmp_path / "image"))
    assert (full.code, "with --user" in full.err) == (1, True)


async def test_a_host_has_the_name_that_up_gives_it(command: Command, project: Path) -> None:
    """A folder's name that is none for a host gives the unit the host's own, to which its jobs belong."""
    spoken = project.parent / "Mein Projekt ü"
    spoken.mkdir()
    printed = await command("service", "install", str(spoken), "--print")
    assert (printed.code, "nomaflow-host@mein-projekt.service" in printed.out) == (0, True)
    assert Project.open(spoken, environ={}).host == "mein-projekt"
    (spoken / "jobs.toml").write_text('[[jobs]]\nid = "a"\nhost = "mein-projekt"\nsteps = [{ callable = "a.b:c" }]\n')
    checked = await command("check", str(spoken), "--no-import")
    assert (checked.code, "accepts jobs" in checked.out) == (0, False)


def test_user_units_have_an_absolute_place() -> None:
    """A relative XDG_CONFIG_HOME does not count, and a user needs no HOME."""
    home = pwd.getpwuid(os.geteuid()).pw_dir
    for environ, config in (({"XDG_CONFIG_HOME": "conf", "HOME": "/home/ann"}, "/home/ann"), ({}, home)):
        assert Places.of(environ, user=True).units == Path(config) / ".config/systemd/user"


async def test_removing_without_units_says_so(command: Command, root: Path) -> None:
    """A person reads that there was nothing to remove, a program an empty list."""
    done = await command("service", "uninstall", "--root", str(root))
    assert (done.code, done.out) == (0, "no units are installed\n")
    assert (await command("service", "uninstall", "--root", str(root), "-o", "json")).json == {"files": [], "next": []}


def test_without_systemd_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without systemd gets no files, and the advice to use ``up``."""
    monkeypatch.setattr("nomaflow_cli.service.systemd._BOOTED", tmp_path / "absent")
    with pytest.raises(CliError, match="systemd does not run this machine") as refused:
        require_systemd()
    assert "nomaflow up" in refused.value.fix
    (tmp_path / "absent").mkdir()
    require_systemd()
