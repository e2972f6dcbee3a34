"""One process per state directory, and proof that earlier lives are over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from hostile_user import entered_by_all
from machine_parts import need
from nomaflow_host.process.errors import HostBusy
from nomaflow_host.project.instance_lock import Instance, InstanceLock
from nomaflow_host.project.mark import new_mark, put_mark
from nomaflow_host.reaper.proc import ProcessIdentity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that ignores SIGTERM."""
    code = "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def previous(**changes: object) -> Instance:
    return replace(Instance.new(), incarnation="old", main=ProcessIdentity(1 << 22, 5), **changes)  # type: ignore[arg-type]  # fields by name


def write(state_dir: Path, instance: Instance) -> None:
    (state_dir / "lock").touch()
    found = (state_dir / "lock").stat()
    instance = replace(instance, lock=(found.st_dev, found.st_ino))
    (state_dir / "instance.json").write_text(json.dumps(to_builtins(instance)))


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    """A second process learns the directory's holder, with an exit code of its own; after a release it succeeds."""
    first, second = InstanceLock(state_dir=tmp_path), InstanceLock(state_dir=tmp_path)
    me = Instance.new()
    assert first.acquire(me) == ()
    first.record(me)
    with pytest.raises(HostBusy, match=f"process {os.getpid()} holds") as raised:
        second.acquire(Instance.new())
    assert raised.value.exit_code == 75
    first.release()
    first.release()
    assert second.acquire(Instance.new()) == (me.incarnation,)
    second.release()


def test_a_record_outlives_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reboot it is what proves the end of the earlier life: file and name are on the disk."""
    synced, sync = [], os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "fsync", noted)
    lock = InstanceLock(state_dir=tmp_path)
    lock.acquire(Instance.new())
    lock.record(Instance.new())
    lock.release()
    assert (synced[0].parent, synced[1]) == (tmp_path, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"lock", "instance.json"}


def test_a_host_that_cannot_write_who_it_is_does_not_start(tmp_path: Path) -> None:
    """A full disk is reported in words, with the way out and an exit code after which the host is restarted."""
    (tmp_path / "jobs.toml").write_text("")
    # Its writes fail as on a full disk. Set by a shell: where code of ours runs in the forked child, so does gRPC's.
    without_room = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-B", "-P", "-m"]
    done = subprocess.run(
        [*without_room, "nomaflow_host", "--project", str(tmp_path), "--name", "team"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = f"nomaflow host: the host's state cannot be written to '{tmp_path}/.nomaflow/"
    assert (done.returncode, done.stderr.startswith(said)) == (70, True), done.stderr
    assert done.stderr.splitlines()[0].endswith(": file too large")
    assert "  fix: free disk space" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_earlier_life_of_this_boot_is_over_when_nothing_is_left(tmp_path: Path) -> None:
    """An ended incarnation is listed, and so are those that it had proof of."""
    write(tmp_path, previous(reaper=ProcessIdentity(os.getpid(), 1), ended=("older",)))
    lock = InstanceLock(state_dir=tmp_path)
    assert lock.acquire(Instance.new()) == ("older", "old")
    lock.release()


AS_NOBODY = """
import os, sys
from pathlib import Path
from nomaflow_host.process.errors import HostBusy, HostError
from nomaflow_host.project import instance_lock
me = instance_lock.Instance.new()
instance_lock._LEFTOVER_SECONDS = 0.2
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    instance_lock.InstanceLock(state_dir=Path(sys.argv[1])).acquire(me)
except HostError as error:
    print(isinstance(error, HostBusy), error.exit_code, error)
"""


def test_a_copied_folder_leaves_the_host_of_the_original_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    """A copy that was made while that host ran has its record, and nothing of it is left over: it runs."""
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    before = previous(reaper=ProcessIdentity.of(sleeper.pid))
    assert put_mark(sleeper.pid, before.mark)
    write(original, before)
    shutil.copytree(original, copy)
    lock = InstanceLock(state_dir=copy)
    assert lock.acquire(Instance.new()) == ()
    assert sleeper.poll() is None
    lock.release()


def test_a_leftover_that_cannot_be_killed_is_no_other_host(sleeper: subprocess.Popen[bytes]) -> None:
    """It is told as what it is: whoever joins a kernel must not hear that this host runs already."""
    need(root=True)
    with entered_by_all() as folder:
        before = previous(reaper=ProcessIdentity(1 << 22, 5))
        assert put_mark(sleeper.pid, before.mark)
        write(folder, before)
        for each in (folder, folder / "lock"):
            os.chown(each, 65534, 65534)
        command = [sys.executable, "-c", AS_NOBODY, str(folder)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("False 75 processes of this host's earlier life are left and cannot be killed: ")
    assert sleeper.poll() is None


def test_a_leftover_that_has_shed_its_environment_is_killed(tmp_path: Path) -> None:
    """A leftover's children bear the mark, even in their own sessions and with nothing else inherited."""
    script = (
        "import os, subprocess, sys\n"
        "sys.stdin.readline()\n"
        "child = subprocess.Popen(['sleep', '600'], env={}, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        before = previous(reaper=ProcessIdentity(1 << 22, 5))
        assert put_mark(parent.pid, before.mark)
        parent.stdin.write("go\n")
        parent.stdin.flush()
        child = ProcessIdentity.of(int(parent.stdout.readline()))
        parent.kill()
    assert child.alive
    write(tmp_path, before)
    lock = InstanceLock(state_dir=tmp_path)
    assert lock.acquire(Instance.new()) == ("old",)
    assert not child.alive
    lock.release()


def test_without_a_mark_nothing_is_claimed(tmp_path: Path) -> None:
    """Only a life that started nothing counts as over then."""
    for reaper, over in ((ProcessIdentity(1 << 22, 5), ()), (None, ("old",))):
        write(tmp_path, previous(reaper=reaper, mark=0))
        lock = InstanceLock(state_dir=tmp_path)
        assert lock.acquire(Instance.new()) == over
        lock.release()


def test_a_mark_is_never_above_an_earlier_one() -> None:
    """A host that runs in a step of another can mark its processes too."""
    code = (
        "from nomaflow_host.project.mark import new_mark, put_mark\n"
        "import os\n"
        "marks = [mark for _ in range(3) if put_mark(os.getpid(), mark := new_mark())]\n"
        "print(len(marks), all(marks), marks == sorted(marks, reverse=True))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "3 True True\n"
    assert new_mark() != new_mark()


def test_a_reaper_that_does_not_end_is_killed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reaper gets its time to clean up, and no more."""
    monkeypatch.setattr("nomaflow_host.project.instance_lock._REAPER_SECONDS", 0.2)
    write(tmp_path, previous(reaper=ProcessIdentity.of(sleeper.pid)))
    lock = InstanceLock(state_dir=tmp_path)
    assert lock.acquire(Instance.new()) == ("old",)
    assert sleeper.wait(30) == -signal.SIGKILL
    lock.release()


def test_a_stranger_with_the_same_pid_is_never_touched(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """The start time tells them apart."""
    stranger = ProcessIdentity(sleeper.pid, 1)
    write(tmp_path, replace(previous(reaper=stranger), incarnation="another"))
    lock = InstanceLock(state_dir=tmp_path)
    assert lock.acquire(Instance.new()) == ("another",)
    assert sleeper.poll() is None
    lock.release()


@pytest.mark.parametrize(
    ("changes", "over"),
    [
        ({"boot_id": "before", "machine_id": "m"}, True),
        ({"boot_id": "before", "machine_id": "other"}, False),
        ({"pid_namespace": "pid:[1]"}, False),
        ({"boot_id": "before", "machine_id": "m", "pid_namespace": "pid:[1]"}, False),
    ],
)
def test_what_cannot_be_proved_is_not_said(tmp_path: Path, changes: dict[str, str], *, over: bool) -> None:
    """A reboot of the same machine is proof, another machine or container is not, though its image's id is the same."""
    write(tmp_path, previous(**changes))
    lock = InstanceLock(state_dir=tmp_path)
    assert bool(lock.acquire(replace(Instance.new(), machine_id="m"))) is over
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"incarnation": 3}', '{"incarnation": "x", "main": {}}'])
def test_a_damaged_record_proves_nothing(tmp_path: Path, text: str) -> None:
    """The host starts, and claims nothing about earlier lives."""
    (tmp_path / "instance.json").write_text(text)
    lock = InstanceLock(state_dir=tmp_path)
    assert lock.acquire(Instance.new()) == ()
    lock.release()
