"""A part of ``up`` as a real process: started again, given up, stopped by the ladder, never orphaned."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from machine_parts import need
from nomaflow_cli.commands.processes import _next_port
from nomaflow_cli.errors import CliError
from nomaflow_cli.up import kept_running, tether
from nomaflow_cli.up.kept_running import Part, PartFailed, PartNotice

PATIENCE = 60.0
READY = "import sys, time; print('ready', flush=True); "
WAITS = READY + "time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAITS
SECOND_TIME = (
    "import signal, sys, time\n"
    "asked = []\n"
    "signal.signal(signal.SIGTERM, lambda *_: (asked.append(1), print('ready', flush=True)))\n"
    "print('ready', flush=True)\n"
    "while len(asked) < 2: time.sleep(0.01)\n"
)


class _Watched:
    """A part, and what was said about it."""

    def __init__(self, folder: Path, code: str, *, needed: bool = True) -> None:
        self.notices: asyncio.Queue[PartNotice] = asyncio.Queue()
        self.part = Part(
            name="kernel",
            command=(sys.executable, "-c", code),
            log=folder / "state" / "kernel.log",
            notify=self.notices.put_nowait,
            needed=needed,
        )
        self.running = asyncio.create_task(self.part.keep_running())

    async def notice(self) -> PartNotice:
        async with asyncio.timeout(PATIENCE):
            return await self.notices.get()

    async def printed(self, times: int = 1) -> None:
        """Wait until the process has printed ``ready``."""
        async with asyncio.timeout(PATIENCE):
            while self.part.log.read_text().count("ready") < times:  # a file cannot be awaited
                await asyncio.sleep(0.01)

    async def stop(
        self, deadline: float = PATIENCE, hurry: asyncio.Event | None = None, kill: asyncio.Event | None = None
    ) -> PartNotice:
        await self.part.stop(deadline=deadline, hurry=hurry or asyncio.Event(), kill=kill or asyncio.Event())
        await self.running
        return await self.notice()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_running, "_FIRST_DELAY", 0.05)


async def test_a_crashed_part_is_started_again(tmp_path: Path) -> None:
    """A part that was killed is started again, and said so with the cause and the wait."""
    watched = _Watched(tmp_path, WAITS)
    first = await watched.notice()
    await watched.printed()
    watched.part.proven = True
    watched.part.signal(signal.SIGKILL)
    crashed = await watched.notice()
    second = await watched.notice()
    await watched.printed(2)
    assert (crashed.state, crashed.exit, crashed.again_in) == ("crashed", "killed by SIGKILL", 0.05)
    assert second.state == "started"
    assert second.pid not in (0, first.pid)
    assert (await watched.stop()).state == "stopped"


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "print('half a line'); raise SystemExit(120)"])
async def test_a_part_whose_log_cannot_be_written_is_said_to_be_that(tmp_path: Path, code: str) -> None:
    """On a full disk its log has no cause: nothing is in it, or Python's own exit code says that output was lost."""
    watched = _Watched(tmp_path, code)
    with pytest.raises(PartFailed, match=r"exit code 1(20)?, its log does not say why: is the disk full\?"):
        await watched.running


async def test_the_wait_doubles_and_is_short_again_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each crash doubles the wait; a part that ran for over a minute starts again with the first wait."""
    now = 0.0
    monkeypatch.setattr(kept_running, "time", SimpleNamespace(monotonic=lambda: now))
    watched = _Watched(tmp_path, "raise SystemExit(1)")
    watched.part.proven = True
    waits = []
    while len(waits) < 5:
        notice = await watched.notice()
        if notice.state == "started" and len(waits) == 3:
            now += 61
        waits += [notice.again_in] if notice.state == "crashed" else []
    await watched.part.stop(deadline=1, hurry=asyncio.Event(), kill=asyncio.Event())
    await watched.running
    assert waits == [0.05, 0.1, 0.2, 0.05, 0.1]


async def test_a_stop_does_not_wait_for_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the wait before a new start is, a stop ends it, and nothing is started."""
    monkeypatch.setattr(kept_running, "_FIRST_DELAY", 600)
    watched = _Watched(tmp_path, "print(1); raise SystemExit(1)")
    watched.part.proven = True
    started, crashed = await watched.notice(), await watched.notice()
    assert (started.state, crashed.exit, crashed.again_in) == ("started", "exit code 1", 600)
    async with asyncio.timeout(PATIENCE):
        await watched.part.stop(deadline=1, hurry=asyncio.Event(), kill=asyncio.Event())
        await watched.running
    assert watched.notices.empty()


async def test_a_part_that_never_was_ready_is_given_up(tmp_path: Path) -> None:
    """A first start that fails is an error with the last lines of the log."""
    watched = _Watched(tmp_path, "print('no such store'); raise SystemExit(1)")
    with pytest.raises(PartFailed, match="the kernel did not stay up: exit code 1") as caught:
        await watched.running
    assert caught.value.tail == ("no such store",)


async def test_a_log_that_was_cut_off_meanwhile_still_says_why(tmp_path: Path) -> None:
    """Its end is shown after logrotate's ``copytruncate``, too: nobody is told that the disk may be full."""
    log = tmp_path / "state" / "kernel.log"
    log.parent.mkdir()
    log.write_text("an earlier life\n" * 100)
    watched = _Watched(tmp_path, "import os, sys; os.ftruncate(1, 0); sys.exit('no such store')")
    with pytest.raises(PartFailed, match=r"exit code 1$") as caught:
        await watched.running
    assert caught.value.tail == ("no such store",)


async def test_a_part_that_the_others_go_on_without_is_started_until_it_runs(tmp_path: Path) -> None:
    """There may be room on the disk later; only what a new start does not change gives it up."""
    room = tmp_path / "room"
    watched = _Watched(tmp_path, f"import os; os.path.exists({str(room)!r}) or exit(1); {WAITS}", needed=False)
    told = [await watched.notice() for _ in range(4)]
    assert [each.state for each in told] == ["started", "crashed", "started", "crashed"]
    room.touch()
    await watched.printed()
    while (await watched.stop()).state != "stopped":
        pass
    watched = _Watched(tmp_path, "raise SystemExit(78)", needed=False)
    with pytest.raises(PartFailed, match="exit code 78"):
        await watched.running


async def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A part whose log cannot be written is given up with the reason, since its failures would be invisible."""
    (tmp_path / "state").write_text("a file where a directory should be")
    watched = _Watched(tmp_path, WAITS)
    with pytest.raises(PartFailed, match="its log cannot be written: File exists"):
        await watched.running


async def test_a_part_that_cannot_be_started_for_a_while_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that the system refuses after a first run counts as one more crash, with its cause, not as the end."""
    watched = _Watched(tmp_path, WAITS)
    await watched.notice()
    await watched.printed()
    watched.part.proven = True
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        watched.part.signal(signal.SIGKILL)
        assert (await watched.notice()).exit == "killed by SIGKILL"
        refused = await watched.notice()
    assert (refused.state, refused.exit) == ("crashed", "it cannot be started: No such file or directory")
    while (await watched.notice()).state != "started":
        pass
    await watched.printed(2)
    assert (await watched.stop()).state == "stopped"


async def test_a_part_that_is_stopped_while_it_starts_is_not_left(tmp_path: Path) -> None:
    """A stop that comes while its process is being made waits for that process, and ends it."""
    watched = _Watched(tmp_path, WAITS)
    await asyncio.sleep(0)  # it is being started, and there is no process yet
    assert not watched.part.pid
    async with asyncio.timeout(PATIENCE):
        assert (await watched.stop()).state == "started"
    assert (await watched.notice()).state == "stopped"


async def test_an_exit_code_that_says_useless_is_believed(tmp_path: Path) -> None:
    """A part whose address another has is not started again, nor one that never served and has unusable settings."""
    for code, proven, words in (
        (75, True, "another one is running, or has its address"),
        (78, False, "its configuration cannot be used"),
    ):
        watched = _Watched(tmp_path, f"raise SystemExit({code})")
        watched.part.proven = proven
        with pytest.raises(PartFailed, match=f"exit code {code}, {words}"):
            await watched.running


async def test_a_part_that_has_served_waits_for_its_settings(tmp_path: Path) -> None:
    """A part that comes back to settings that it cannot use is started again: somebody may mend them meanwhile."""
    watched = _Watched(tmp_path, "raise SystemExit(78)")
    watched.part.proven = True
    while (notice := await watched.notice()).state != "crashed":
        pass
    assert "exit code 78" in notice.exit
    assert notice.again_in is not None
    await watched.part.stop(deadline=1.0, hurry=asyncio.Event(), kill=asyncio.Event())
    await watched.running


async def test_a_deaf_part_is_killed_after_the_deadline(tmp_path: Path) -> None:
    """A part that ignores SIGTERM is killed when its time is over, and it can be stopped twice."""
    watched = _Watched(tmp_path, DEAF)
    pid = (await watched.notice()).pid
    await watched.printed()
    assert (await watched.stop(deadline=0.2)).state == "killed"
    await watched.part.stop(deadline=0.1, hurry=asyncio.Event(), kill=asyncio.Event())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_hurrying_asks_again(tmp_path: Path) -> None:
    """A second request of the person is passed on to the part."""
    watched = _Watched(tmp_path, SECOND_TIME)
    await watched.notice()
    await watched.printed()
    hurry = asyncio.Event()
    stopping = asyncio.create_task(watched.stop(hurry=hurry))
    await watched.printed(2)  # it has heard the first request: two signals at once would be one
    hurry.set()
    stopped = await stopping
    assert (stopped.state, stopped.exit) == ("stopped", "exit code 0")


async def test_a_third_request_kills(tmp_path: Path) -> None:
    """A part that hears neither request has its whole time, unless the person has none left."""
    watched = _Watched(tmp_path, DEAF)
    await watched.notice()
    await watched.printed()
    hurry, kill = asyncio.Event(), asyncio.Event()
    stopping = asyncio.create_task(watched.stop(deadline=600, hurry=hurry, kill=kill))
    hurry.set()
    done, _ = await asyncio.wait({stopping}, timeout=0.2)
    assert not done
    kill.set()
    assert (await stopping).state == "killed"


def test_signals_are_held_back_for_a_child_alone() -> None:
    """The process that starts it notices its own again."""
    held = {signal.SIGHUP, signal.SIGUSR1}
    with tether.signals_held():
        assert held <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert held.isdisjoint(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_part_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    """The system tells the parts to end when ``up`` itself is killed with SIGKILL."""
    starter = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom nomaflow_cli.up.kept_running import Part\n"
        "async def main():\n"
        f"    part = Part(name='host', command=(sys.executable, '-c', {WAITS!r}), log=Path({str(tmp_path / 'l')!r}),\n"
        "                notify=lambda notice: print(notice.pid, flush=True))\n"
        "    await part.keep_running()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watch = os.pidfd_open(pid)
        while "ready" not in (tmp_path / "l").read_text():
            os.sched_yield()
        process.kill()
    try:
        with open(watch, "rb", buffering=0) as descriptor:
            ended, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ended
    finally:
        subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)


@pytest.mark.parametrize(
    ("kernel", "host"),
    [
        ("127.0.0.1:9464", "127.0.0.1:9465"),
        ("[::1]:1", "[::1]:2"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("unix:/run/m.sock", "unix:/run/m.sock-host"),
        ("x", "x"),
        ("", ""),
    ],
)
def test_the_host_s_metrics_are_at_the_next_port(kernel: str, host: str) -> None:
    """A free port stays one, and what is malformed is left for the kernel to refuse."""
    assert _next_port(kernel) == host


def test_the_option_whose_next_port_does_not_exist_is_named() -> None:
    """The host would refuse an address that nobody gave."""
    with pytest.raises(CliError, match=r"port after that of --metrics 127\.0\.0\.1:65535, and there is none"):
        _next_port("127.0.0.1:65535")


@pytest.mark.parametrize("made", [True, False])
def test_a_read_only_file_system_is_named(tmp_path: Path, made: bool) -> None:
    """Not the owner is at fault, whether the folder of the state exists or not."""
    need("unshare", namespaces=True)
    (tmp_path / "jobs.toml").touch()
    (tmp_path / ".nomaflow").mkdir() if made else None
    mounts = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -m nomaflow_cli up "$1"'
    command = ["unshare", "--mount", "sh", "-c", mounts, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr == (
        f"✘ cannot write to '{tmp_path}/.nomaflow': Read-only file system\n"
        "  → make that file system writable, or move the project to another\n"
    )
