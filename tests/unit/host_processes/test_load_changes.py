"""Changes that a load would make, and the detection of changed projects."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.supervisor import disk_stamp as on_disk
from nomaflow_host.supervisor.disk_stamp import DiskStamp, DiskWatch, disk_stamp
from nomaflow_host.supervisor.load_changes import changes_of
from nomaflow_project.reading.project_files import ProjectFiles
from waiting import eventually

JOB = '[[jobs]]\nid = "{id}"\nsteps = [{{ callable = "{callable}" }}]\n'
FINE: Mapping[str, Any] = {"kind": "sync", "parameters": [], "accepts_any_keyword": True, "error": None}
BAD: Mapping[str, Any] = {**FINE, "error": "no"}
WORKS: Mapping[str, Any] = {"error": None}
BREAKS: Mapping[str, Any] = {"error": "the module 'a' cannot be imported: X (/p/a.py:3)", "file": "a.py", "line": 3}


def _manifest(root: Path, **offers: Any) -> dict[str, Any]:
    files = ProjectFiles(root, {}).job_files
    offered = {"callables": {"a:f": FINE, "b:f": FINE}, "modules": {"a": WORKS, "b": WORKS}, **offers}
    return {"host": "h", "job_files": [file.to_json() for file in files], **offered}


def test_a_path_that_no_file_can_have_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A name with a NUL byte in ``env_file`` ends no look at the disk."""
    spec = ProjectSpec(host="h", root=str(tmp_path), sys_path=(), plugin_dirs=(), env_files=("a\0.env", "b.env"))
    stamp = disk_stamp(spec)
    assert stamp["a\0.env"] == stamp["b.env"]


async def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at it is waited for a second at most, there is one at a time, and what it finds counts when it is done."""
    monkeypatch.setattr(on_disk, "_LOOK_SECONDS", 0.05)
    spec = ProjectSpec(host="h", root=str(tmp_path), sys_path=(), plugin_dirs=())
    watch, before, comes_back, looks = DiskWatch(), disk_stamp(spec), threading.Event(), [0]

    def hanging(spec: ProjectSpec) -> DiskStamp:
        looks[0] += 1
        comes_back.wait(60)
        return disk_stamp(spec)

    monkeypatch.setattr(on_disk, "disk_stamp", hanging)
    (tmp_path / "jobs.toml").touch()
    for _ in range(3):
        await watch.look(before, spec)
        assert (watch.newer_than(before), looks) == ((), [1])
    comes_back.set()
    await eventually(lambda: watch.newer_than(before) == ("jobs.toml",))
    assert watch.newer_than(disk_stamp(spec)) == (), "of another load"
    (tmp_path / "jobs.toml").unlink()
    await watch.look(before, spec)
    assert watch.newer_than(before) == ()


def test_each_entry_of_plugins_is_judged_by_itself(tmp_path: Path) -> None:
    """A link to itself is told by its name, and an editor's lock file is no plugin."""
    plugins = tmp_path / "plugins"
    (plugins / ".fine").mkdir(parents=True)
    (plugins / ".fine" / "jobs.toml").write_text(JOB.format(id="x", callable="a:f"))
    spec = ProjectSpec(host="h", root=str(tmp_path), sys_path=(), plugin_dirs=())
    before = disk_stamp(spec)
    (plugins / ".#team.py").symlink_to("me@host.123:456")
    assert disk_stamp(spec) == before
    (plugins / "extra").symlink_to("extra")
    _, fine, extra = ProjectFiles(tmp_path, {}).job_files
    assert (fine.path, fine.error) == ("plugins/.fine/jobs.toml", None)
    assert extra.path == "plugins/extra/jobs.toml"
    assert extra.error is not None
    assert extra.error.code == "unreadable_file"
    assert extra.error.message == "it cannot be read: too many levels of symbolic links"


def test_a_job_that_would_have_to_be_kept_is_told_with_its_line(tmp_path: Path) -> None:
    """Problems of kept jobs are the reason to refuse; jobs added or removed legibly are only named."""
    file = tmp_path / "jobs.toml"
    file.write_text(JOB.format(id="x", callable="a:f") + JOB.format(id="y", callable="a:f"))
    serving = _manifest(tmp_path)
    file.write_text(JOB.format(id="x", callable="a:f") + "timout_seconds = 5\n" + JOB.format(id="z", callable="b:f"))
    changes = changes_of(serving, _manifest(tmp_path), root=tmp_path)
    assert [(each.place, each.code) for each in changes.broken] == [("jobs.toml:4", "unknown_key")]
    assert (changes.removed, changes.added) == (("y",), ("z",))


def test_schedules_that_end_are_named(tmp_path: Path) -> None:
    """A job that stays and fires no more, by its own schedule or by a preset's, is named; a removed one is not."""
    file = tmp_path / "jobs.toml"
    scheduled = [JOB.format(id=name, callable="a:f") + 'schedule = "0 2 * * *"\n' for name in "xyz"]
    preset = '[[jobs.presets]]\nname = "fast"\nschedule = "0 3 * * *"\n'
    file.write_text(scheduled[0] + preset + scheduled[1] + scheduled[2])
    serving = _manifest(tmp_path)
    file.write_text(scheduled[0] + JOB.format(id="y", callable="a:f"))
    changes = changes_of(serving, _manifest(tmp_path), root=tmp_path)
    assert (changes.broken, changes.removed) == ((), ("z",))
    assert changes.stopped == ("x (preset fast)", "y")


def test_an_illegible_file_is_told_once(tmp_path: Path) -> None:
    """However many jobs it had; and what was broken before is no reason, nor is anything at a first load."""
    file = tmp_path / "jobs.toml"
    file.write_text(JOB.format(id="x", callable="a:f") + JOB.format(id="y", callable="a:f"))
    serving = _manifest(tmp_path)
    file.write_text("\n[[jobs]\n")
    broken = _manifest(tmp_path)
    assert [(each.place, each.code) for each in changes_of(serving, broken, root=tmp_path).broken] == [
        ("jobs.toml:2", "bad_toml")
    ]
    assert changes_of(broken, broken, root=tmp_path).broken == ()
    assert changes_of(None, broken, root=tmp_path).broken == ()


def test_a_missing_file_is_told_once(tmp_path: Path) -> None:
    """The reason of its jobs, that the file had jobs, stands in place of the file's own."""
    file = tmp_path / "jobs.toml"
    file.write_text(JOB.format(id="x", callable="a:f") + JOB.format(id="y", callable="a:f"))
    serving = _manifest(tmp_path)
    file.unlink()
    (problem,) = changes_of(serving, _manifest(tmp_path), root=tmp_path).broken
    assert (problem.code, problem.message) == ("missing_file", "there is no such file, and it had jobs")


def test_a_new_file_that_cannot_be_read_is_a_reason_and_no_job_counts_as_removed(tmp_path: Path) -> None:
    """Nobody knows which jobs it has; once it serves, each load says that it still cannot be read."""
    file, new = tmp_path / "jobs.toml", tmp_path / "plugins" / "y" / "jobs.toml"
    file.write_text(JOB.format(id="x", callable="a:f") + JOB.format(id="y", callable="a:f"))
    serving = _manifest(tmp_path)
    file.write_text(JOB.format(id="x", callable="a:f"))
    new.parent.mkdir(parents=True)
    new.write_text('[[jobs]]\nid = "y\n')
    broken = _manifest(tmp_path)
    changes = changes_of(serving, broken, root=tmp_path)
    assert (changes.removed, [(each.place, each.code) for each in changes.broken]) == (
        (),
        [("plugins/y/jobs.toml:2", "bad_toml")],
    )
    changes = changes_of(broken, broken, root=tmp_path)
    assert (changes.broken, [each.code for each in changes.standing]) == ((), ["bad_toml"])


def test_a_second_table_with_one_id_is_a_reason(tmp_path: Path) -> None:
    """Nobody guesses which of the two its author means."""
    file = tmp_path / "jobs.toml"
    file.write_text(JOB.format(id="x", callable="a:f"))
    serving = _manifest(tmp_path)
    file.write_text(JOB.format(id="x", callable="b:f") + JOB.format(id="x", callable="a:f"))
    twice = _manifest(tmp_path)
    assert [(each.place, each.code) for each in changes_of(serving, twice, root=tmp_path).broken] == [
        ("jobs.toml:2", "duplicate_job_id")
    ]
    assert changes_of(twice, twice, root=tmp_path).broken == ()


def test_a_module_that_no_longer_imports_is_told_once(tmp_path: Path) -> None:
    """A broken module is reported once with its own place, and not for each of its jobs and callables."""
    (tmp_path / "jobs.toml").write_text(JOB.format(id="x", callable="a:f") + JOB.format(id="y", callable="a:f"))
    broken = _manifest(tmp_path, callables={"a:f": BAD, "b:f": FINE}, modules={"a": BREAKS, "b": WORKS})
    (problem,) = changes_of(_manifest(tmp_path), broken, root=tmp_path).broken
    assert (problem.place, problem.message) == ("a.py:3", "the module 'a' cannot be imported: X")
    assert changes_of(broken, broken, root=tmp_path).broken == ()


def test_a_callable_that_is_gone_is_told_where_its_job_names_it(tmp_path: Path) -> None:
    """A missing callable is reported at its job's line; without a valid job, the callable itself is reported."""
    (tmp_path / "jobs.toml").write_text(JOB.format(id="x", callable="a:f"))
    changes = changes_of(_manifest(tmp_path), _manifest(tmp_path, callables={"a:f": BAD, "b:f": BAD}), root=tmp_path)
    assert [(each.place, each.code) for each in changes.broken] == [
        ("", "callable_broken"),
        ("jobs.toml:3", "callable_error"),
    ]


@pytest.mark.parametrize("edit", ["write", "chmod", "dangle", "vanish", "link", "named", "variables"])
def test_a_stamp_sees_every_kind_of_edit(tmp_path: Path, edit: str) -> None:
    """Content, permissions, links and vanished folders, and files that the project names elsewhere."""
    root = tmp_path / "project"
    folder = root / "plugins" / "x"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("")
    (folder / "loop").symlink_to(root)
    elsewhere = tmp_path / "jobs.toml"
    elsewhere.write_text("")
    variables = tmp_path / "of_production"
    spec = ProjectSpec(host="h", root=str(root), job_files=({"path": str(elsewhere)},), env_files=(str(variables),))
    before = disk_stamp(spec)
    assert disk_stamp(spec) == before
    match edit:
        case "write":
            (folder / "a.py").write_text("x = 1\n")
        case "chmod":
            (folder / "a.py").chmod(0o000)
        case "dangle":
            (folder / "a.py").unlink()
            (folder / "a.py").symlink_to("nowhere")
        case "vanish":
            os.rename(folder, tmp_path / "moved")
        case "link":
            os.rename(folder, tmp_path / "moved")
            folder.symlink_to("nowhere")
        case "named":
            elsewhere.write_text("jobs = []\n")
        case "variables":
            variables.write_text("REGION=eu\n")
    assert disk_stamp(spec) != before
