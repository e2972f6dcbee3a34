"""One look of a launcher: whose instances it takes for stuck or no longer wanted."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nomaflow.client import ClientError, KernelClient, KernelPlace, KernelUnreachable, ProjectAddress
from nomaflow.client.values import DeclaredView, HostView, InstanceView, KernelView, ResourcesView, WantedView
from nomaflow_launchers import app
from nomaflow_launchers.app import _Launcher, serve
from nomaflow_launchers.engines.engine import Engine, EngineError
from nomaflow_launchers.planning import Launched, Order
from nomaflow_launchers.settings import CannotStart
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class _Parts:
    """A kernel and an engine that tell what a test sets, and note what is asked of them."""

    def __init__(self) -> None:
        self.kernel = KernelView(version="1", epoch=1, pid=1, store="sqlite", store_id="s", started_at=NOON)
        self.hosts: tuple[HostView, ...] = ()
        self.instances: tuple[Launched, ...] = ()
        self.ended: list[str] = []
        self.wanted: tuple[WantedView, ...] = ()
        self.started: list[str] = []
        self.asked = 0
        self.refuses: tuple[str, ...] = ()
        self.evidence = ""
        self.declared: list[str] = []
        self.launched: dict[str, Any] = {}

    async def get_kernel(self) -> KernelView:
        return self.kernel

    async def list_hosts(self) -> tuple[HostView, ...]:
        return self.hosts

    async def list_wanted(self, **launched: Any) -> tuple[WantedView, ...]:
        self.launched = launched
        return self.wanted

    async def invite_instance(self, *_: Any, **__: Any) -> Any:
        raise ClientError("this kernel listens on its Unix socket only", reason="NOT_ON_TCP")

    async def listed(self, _store_id: str) -> tuple[Launched, ...]:
        return self.instances

    async def start(self, order: Order) -> str:
        self.asked += 1
        if order.shape.name in self.refuses:
            raise EngineError(f"no partition {order.shape.name}")
        self.started.append(order.shape.name)
        return str(len(self.started))

    async def end(self, engine_id: str, *, only_waiting: bool) -> None:
        del only_waiting
        self.ended.append(engine_id)

    async def witness(self, *_: Any) -> str:
        return self.evidence

    async def declare_ended(self, _host: str, incarnation: str, *, evidence: str) -> DeclaredView:
        assert evidence
        self.declared.append(incarnation)
        return DeclaredView(known=True, attempts=1)

    def log_of(self, engine_id: str) -> str:
        return engine_id

    def leads_for(self, seconds: float) -> None:
        """Have a new kernel lead, for so long."""
        self.kernel = KernelView(
            version="1", epoch=self.kernel.epoch + 1, pid=1, store="sqlite", store_id="s", started_at=NOON,
            now=NOON + timedelta(seconds=seconds),
        )  # fmt: skip


@pytest.fixture
def parts() -> _Parts:
    """Return a kernel that has led for an hour, and an engine."""
    made = _Parts()
    made.leads_for(3600)
    return made


def _launcher(parts: _Parts) -> _Launcher:
    section = LauncherSection(hosts=("team",), start_seconds=60)
    return _Launcher(cast(KernelClient, parts), cast(Engine, parts), section)


def _runs(number: int, host: str = "team") -> Launched:
    return Launched(engine_id=str(number), host=host, shape="default", running_seconds=600)


def _host(state: str, number: int = 1, *, running: int = 1, name: str = "team") -> HostView:
    has = ResourcesView(labels={"launcher.job": str(number)})
    instance = InstanceView(incarnation=f"inc-{number}", state=state, running=running, has=has)
    return HostView(name=name, state=state, instances=(instance,))


@pytest.mark.parametrize("state", ["AWAITED", "DETACHED", "UNREACHABLE", "LOADING"])
async def test_an_instance_whose_session_broke_is_not_stuck(parts: _Parts, state: str) -> None:
    """It has attached, and its step runs on: it comes back, or the grace decides."""
    parts.instances, parts.hosts = (_runs(1),), (_host(state),)
    await _launcher(parts).turn()
    assert parts.ended == []


async def test_a_new_kernel_is_given_time_until_its_instances_are_back(parts: _Parts) -> None:
    """It lists none of those that work; a launcher that has begun with it has not seen them serve either."""
    launcher = _launcher(parts)
    parts.instances, parts.hosts = (_runs(1), _runs(2)), (_host("ATTACHED"),)
    parts.leads_for(5)
    await launcher.turn()
    parts.hosts = ()
    await launcher.turn()
    assert parts.ended == []
    parts.leads_for(61)
    await launcher.turn()
    assert parts.ended == ["2"]  # the launcher has seen the other one serve


async def test_a_kernel_may_begin_to_lead_during_a_look(parts: _Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was asked first is gone, and the next one knows no instance yet."""

    async def list_hosts() -> tuple[HostView, ...]:
        parts.leads_for(1)
        return ()

    monkeypatch.setattr(parts, "list_hosts", list_hosts)
    parts.instances = (_runs(1),)
    await _launcher(parts).turn()
    assert parts.ended == []


async def test_an_end_is_declared_though_the_lead_changes_during_a_look(
    parts: _Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next kernel does not list what it only awaits: the launcher has to remember it."""
    launcher = _launcher(parts)
    parts.hosts = (_host("ATTACHED"),)
    await launcher.turn()

    async def list_hosts() -> tuple[HostView, ...]:
        parts.leads_for(1)
        return ()

    with monkeypatch.context() as during:
        during.setattr(parts, "list_hosts", list_hosts)
        await launcher.turn()
    parts.hosts, parts.evidence = (), "its job has ended"
    await launcher.turn()
    assert parts.declared == ["inc-1"]


async def test_an_instance_that_never_serves_is_stuck(parts: _Parts, caplog: pytest.LogCaptureFixture) -> None:
    """One that still loads for the first time has not served. It is asked to end until it has, and told of once."""
    parts.instances, parts.hosts = (_runs(1), _runs(2)), (_host("LOADING", running=0),)
    launcher = _launcher(parts)
    await launcher.turn()
    assert parts.ended == ["1", "2"]
    await launcher.turn()
    assert (parts.ended, caplog.text.count("without attaching")) == (["1", "2"] * 2, 2)


async def test_an_instance_that_served_an_earlier_kernel_has_not_failed(
    parts: _Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """The new one never saw it: it was idle, and left before it was back."""
    launcher = _launcher(parts)
    parts.instances = (_runs(1), _runs(2))
    parts.hosts = (_host("ATTACHED"),)
    await launcher.turn()  # the other one came while the launcher could not look
    parts.hosts = ()
    parts.leads_for(5)
    await launcher.turn()
    parts.instances = ()
    await launcher.turn()
    assert "was not seen to serve" not in caplog.text


async def test_looks_that_are_in_time_miss_no_instance_however_soon_one_may_end(
    parts: _Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a broken project would have no pauses between its instances where these end before the next look."""
    section = LauncherSection(hosts=("team",), idle_exit_seconds=1e-9)
    launcher = _Launcher(cast(KernelClient, parts), cast(Engine, parts), section)
    parts.instances = (Launched(engine_id="1", host="team", shape="default", running_seconds=1),)
    await launcher.turn()
    parts.instances = ()
    await launcher.turn()
    assert "instance 1 of host team has ended, and was not seen to serve" in caplog.text


async def test_an_instance_that_served_and_is_not_heard_any_more_is_told_once(
    parts: _Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """It hangs, or is cut off with a step that was given up: it is not ended, but nobody else would tell of it."""
    section = LauncherSection(hosts=("team",), start_seconds=1e-9)
    launcher = _Launcher(cast(KernelClient, parts), cast(Engine, parts), section)
    parts.instances = (_runs(1), _runs(2), Launched(engine_id="3", host="team", shape="default"))
    parts.hosts = (_host("ATTACHED"),)
    await launcher.turn()
    for state in ("AWAITED", "DETACHED", "UNREACHABLE"):
        parts.hosts = (_host(state),)
        await launcher.turn()
    assert "has served and runs" not in caplog.text
    parts.hosts = (HostView(name="team", state="DETACHED"),)
    for _ in range(3):  # the first look sees that it is gone, the next that it is still
        await launcher.turn()
    assert caplog.text.count("has served and runs") == caplog.text.count("instance 1 of host 'team' has served") == 1
    assert "1" not in parts.ended


async def test_a_host_that_the_kernel_does_not_show_is_told_once(
    parts: _Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """It is misspelt, was never started, or the launcher may not read it: nothing would ever wait for it."""
    launcher = _launcher(parts)
    for _ in range(2):
        await launcher.turn()
        assert parts.launched["launched_hosts"] == []
    assert caplog.text.count("the kernel shows no host 'team', so nothing waits for it: start it once by hand") == 1
    parts.hosts = (HostView(name="team", state="DETACHED"),)
    await launcher.turn()
    assert parts.launched["launched_hosts"] == ["team"]


async def test_what_another_teams_instances_say_of_themselves_counts_for_them_alone(parts: _Parts) -> None:
    """Their engine may give the same ids, and a hostile one could pass for all that the launcher has started."""
    parts.instances, parts.hosts = (_runs(1),), (_host("ATTACHED", name="other"),)
    await _launcher(parts).turn()
    assert parts.ended == ["1"]


async def test_an_instance_that_runs_nothing_though_attempts_wait_gets_no_company(parts: _Parts) -> None:
    """One that works does: what waits is more than it can take."""
    parts.wanted = (WantedView(host="team", attempts=1, needs=ResourcesView()),)
    parts.instances = (Launched(engine_id="1", host="team", shape="default", running_seconds=9),)
    for running, started in ((0, []), (1, ["default"])):
        parts.hosts = (_host("ATTACHED", running=running),)
        await _launcher(parts).turn()
        assert parts.started == started


async def test_instances_that_the_kernel_hears_keep_their_places_though_the_engine_lists_none(parts: _Parts) -> None:
    """An empty list may be wrong. That of a machine that is gone is right: the kernel hears nothing of it either."""
    section = LauncherSection(hosts=("team",), max_instances=1)
    parts.wanted = (WantedView(host="team", attempts=1, needs=ResourcesView()),)
    for state, started in (("ATTACHED", []), ("DRAINING", []), ("UNREACHABLE", ["default"])):
        parts.hosts = (_host(state),)
        await _Launcher(cast(KernelClient, parts), cast(Engine, parts), section).turn()
        assert parts.started == started


async def test_instances_of_another_launcher_are_left_alone(parts: _Parts) -> None:
    """Teams may share a kernel, and a namespace or a user of the engine: each launcher has its hosts."""
    waits = Launched(engine_id="4", host="other", shape="default")
    own = Launched(engine_id="5", host="other", shape="default", attempt_key="run/fit/1")
    parts.instances = (_runs(3, "other"), waits, own)
    await _launcher(parts).turn()
    assert parts.ended == []


async def test_a_shape_that_the_engine_refuses_holds_up_no_other(parts: _Parts) -> None:
    """It has waited longest, and would take all the room; it is told, and tried again after the others."""
    parts.refuses, parts.hosts = ("gpu",), (HostView(name="team", state="DETACHED"),)
    parts.wanted = tuple(
        WantedView(host="team", attempts=3, needs=ResourcesView(gpus=gpus), since=NOON - timedelta(hours=gpus))
        for gpus in (1, 0)
    )
    shapes = (LauncherShape(name="small", steps=3), LauncherShape(name="gpu", gpus=1, steps=1))
    section = LauncherSection(hosts=("team",), shapes=shapes, max_instances=2)
    launcher = _Launcher(cast(KernelClient, parts), cast(Engine, parts), section)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"^no instance of team \(gpu\) is started: no partition gpu$"):
            await launcher.turn()
    assert parts.launched == {"launched_hosts": [], "launched_seconds": 180}  # nobody should count on it
    assert (parts.started, parts.asked) == (["small"], 3)  # one refusal a turn is enough
    parts.refuses, parts.instances = (), (Launched(engine_id="1", host="team", shape="small"),)
    await launcher.turn()
    await launcher.turn()
    assert (parts.started, parts.launched["launched_hosts"]) == (["small", "gpu"], ["team"])


async def test_a_host_whose_instance_has_ended_before_it_served_gets_no_other_at_once(parts: _Parts) -> None:
    """Another host gets its own meanwhile."""
    parts.wanted = tuple(WantedView(host=name, attempts=1, needs=ResourcesView()) for name in ("team", "other"))
    section = LauncherSection(hosts=("team", "other"))
    launcher = _Launcher(cast(KernelClient, parts), cast(Engine, parts), section)
    await launcher.turn()
    parts.instances = (Launched(engine_id="2", host="other", shape="default", running_seconds=9),)
    await launcher.turn()
    assert parts.asked == 2


async def test_a_kernel_that_stays_away_is_asked_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice a minute at last, or as seldom as when all is well; an engine may ask to wait for longer.

    A new kernel expects a host for a minute: a launcher that was told of it later would be too late.
    """
    turns: list[Exception | None] = [*[KernelUnreachable("away")] * 4, None, EngineError("wait", retry_after=90.0)]
    waits: list[float] = []

    async def turn(_: object) -> None:
        error = turns[len(waits)]
        if error is not None:
            raise error

    async def waited(stop: asyncio.Event, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == len(turns):
            stop.set()

    monkeypatch.setattr(_Launcher, "turn", turn)
    monkeypatch.setattr(app, "happens_within", waited)
    place = KernelPlace(project=tmp_path, source=ProjectAddress(project=tmp_path))
    await serve(place, LauncherSection(hosts=("team",), poll_seconds=10), {})
    assert waits == [20, 30, 30, 30, 10, 90]
    waits.clear()
    await serve(place, LauncherSection(hosts=("team",), poll_seconds=100), {})
    assert waits == [100] * len(turns)


async def test_a_kernel_that_does_not_answer_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log is all that a launcher can say."""

    async def turn(_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise KernelUnreachable("no kernel runs here", fix="start one")

    monkeypatch.setattr(_Launcher, "turn", turn)
    place = KernelPlace(project=tmp_path, source=ProjectAddress(project=tmp_path))
    await serve(place, LauncherSection(hosts=("team",)), {})
    assert "nothing is started: no kernel runs here; start one" in caplog.text


async def test_a_start_without_room_is_no_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor starts the launcher again then; after a wrong setting it would not."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    place: Any = SimpleNamespace(project=tmp_path)
    section: Any = None
    with pytest.raises(CannotStart, match="No space left") as raised:
        await serve(place, section, {})
    assert raised.value.exit_code == 1


def test_a_start_that_fails_for_now_is_told_in_one_line(tmp_path: Path) -> None:
    """With the exit code after which a supervisor starts it again."""
    launcher = '[launcher]\nengine = "slurm"\nhosts = ["team"]\nscratch = "/scratch"\n'
    section = f'{launcher}[[launcher.shapes]]\nname = "small"\n'
    (tmp_path / "nomaflow.toml").write_text(section)
    (tmp_path / ".nomaflow" / "launcher.lock").mkdir(parents=True)  # in its place, no file can be opened for now
    command = [sys.executable, "-m", "nomaflow_launchers", "--project", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines() == [
        f"nomaflow launcher: '{tmp_path}/.nomaflow' cannot be used: Is a directory; check that folder and its disk"
    ]
