"""The decision of a launcher: what to start and what to end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from msgspec import structs

from nomaflow.client.values import ResourcesView, WantedView
from nomaflow_launchers.planning import Launched, Plan, plan
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape

SMALL = LauncherShape(name="small", cpu=2, memory_mb=1000, steps=4)
GPU = LauncherShape(name="gpu", cpu=8, memory_mb=16_000, gpus=2, labels={"zone": "eu"}, steps=8)
SECTION = LauncherSection(hosts=("team",), max_instances=5, shapes=(SMALL, GPU), start_seconds=60)


def _wanted(attempts: int, host: str = "team", **needs: object) -> WantedView:
    return WantedView(host=host, attempts=attempts, needs=ResourcesView(**needs))  # type: ignore[arg-type]  # of the test


def _launched(number: int, shape: str = "small", running: float | None = None) -> Launched:
    return Launched(engine_id=str(number), host="team", shape=shape, running_seconds=running)


def _starts(made: Plan) -> list[str]:
    return [each.shape.name for each in made.starts]


def test_as_many_are_started_as_the_waiting_attempts_need() -> None:
    """The steps that one runs at once decide, up to the limit over all."""
    for attempts, starts in ((0, 0), (1, 1), (4, 1), (5, 2), (20, 5), (1000, 5)):
        made = plan(SECTION, wanted=[_wanted(attempts)] if attempts else [], launched=[], attached=())
        assert _starts(made) == ["small"] * starts, attempts
        assert bool(made.unmet) is (attempts > 20), attempts
    assert made.unmet == [
        "[launcher] max_instances = 5 is reached: steps that need another instance wait until one ends"
    ]


def test_the_first_shape_that_fits_is_taken() -> None:
    """The scarcest amount decides how many are started; what no shape has is told, and starts nothing."""
    wanted = [_wanted(3, gpus=1, labels={"zone": "eu"}), _wanted(3, cpu=1.0), _wanted(2, cpu=1.0, memory_mb=900)]
    made = plan(replace(SECTION, max_instances=50), wanted=wanted, launched=[], attached=())
    assert _starts(made) == ["gpu"] * 2 + ["small"] * (2 + 2)
    assert made.unmet == []
    made = plan(SECTION, wanted=[_wanted(1, gpus=3, labels={"zone": "eu"})], launched=[], attached=())
    assert made.starts == []
    assert made.unmet == ["no shape of [launcher] has what a step of host 'team' needs: gpus = 3, label zone = 'eu'"]


def test_demand_is_as_old_as_the_oldest_part_of_it() -> None:
    """Needs of one shape have waited as long as the oldest of them, wherever it stands in the list."""
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    listed = ((_wanted(4), 1), (_wanted(1, gpus=1), 2), (_wanted(4, cpu=0.5), 3), (_wanted(4, cpu=0.25), 1))
    wanted = [structs.replace(each, since=noon - timedelta(hours=hours)) for each, hours in listed]
    assert _starts(plan(SECTION, wanted=wanted, launched=[], attached=())) == ["small"] * 3 + ["gpu"]


def test_hosts_of_others_are_left_alone() -> None:
    """A launcher starts instances of the hosts that it names, and no others."""
    assert plan(SECTION, wanted=[_wanted(3, host="other")], launched=[], attached=()).starts == []


def test_what_is_coming_counts_against_the_demand_and_what_has_attached_does_not() -> None:
    """An instance that serves takes waiting attempts at once: what is wanted then is wanted besides it."""
    coming = [_launched(1), _launched(2, running=5)]
    assert _starts(plan(SECTION, wanted=[_wanted(8)], launched=coming, attached=())) == []
    assert _starts(plan(SECTION, wanted=[_wanted(9)], launched=coming, attached=())) == ["small"]
    assert _starts(plan(SECTION, wanted=[_wanted(8)], launched=coming, attached=("1", "2"))) == ["small"] * 2
    assert _starts(plan(SECTION, wanted=[_wanted(1, gpus=1)], launched=coming, attached=())) == ["gpu"]


def test_the_limit_holds_over_all_that_the_engine_has() -> None:
    """Instances that have attached count, and those of other shapes; nothing is ended to make room."""
    launched = [_launched(number, "gpu", running=100) for number in range(4)]
    made = plan(SECTION, wanted=[_wanted(100)], launched=launched, attached=[each.engine_id for each in launched])
    assert (_starts(made), made.surplus, made.stuck) == (["small"], [], [])


def test_a_new_instance_that_takes_nothing_is_not_started_again_and_again() -> None:
    """No instance lasts for the step's timeout, say, or has its code; an old one may lack what a new one has."""
    launched = [_launched(1, running=30), _launched(2, running=30)]
    for idle, starts in ((("1", "2"), 0), (("1",), 1), ((), 2)):
        made = plan(SECTION, wanted=[_wanted(8)], launched=launched, attached=("1", "2"), idle=idle)
        assert _starts(made) == ["small"] * starts, idle
    old = [_launched(1, running=61)]
    assert _starts(plan(SECTION, wanted=[_wanted(1)], launched=old, attached=("1",), idle=("1",))) == ["small"]


def test_no_more_are_started_of_a_host_than_the_kernel_lets_attach() -> None:
    """The others would be refused, ended as stuck, and started again; another host has its own."""
    section = replace(SECTION, hosts=("team", "other"), max_instances=300)
    launched = [_launched(number, running=9) for number in range(98)]
    attached = [each.engine_id for each in launched]
    made = plan(section, wanted=[_wanted(400), _wanted(12, host="other")], launched=launched, attached=attached)
    assert Counter(each.host for each in made.starts) == {"team": 2, "other": 3}


def test_instances_without_a_machine_leave_the_queue_once_nobody_wants_them() -> None:
    """The last first, and none that has got a machine: it ends by itself when it is idle."""
    launched = [_launched(1), _launched(2), _launched(3, running=1), _launched(4)]
    assert plan(SECTION, wanted=[_wanted(5)], launched=launched, attached=()).surplus == ["4", "2"]
    assert plan(SECTION, wanted=[], launched=launched, attached=()).surplus == ["4", "2", "1"]


def test_instances_that_are_back_from_no_kernel_yet_push_none_out_of_the_queue() -> None:
    """After a restart of the kernel, what has waited for a machine for long is wanted as before."""
    launched = [_launched(1, running=500), _launched(2, running=500), _launched(3)]
    for known in (("1", "2"), ()):  # the launcher may have started with the kernel
        made = plan(SECTION, wanted=[_wanted(4)], launched=launched, attached=(), known=known, kernel_seconds=3)
        assert (made.surplus, made.starts) == ([], []), known
    made = plan(SECTION, wanted=[], launched=launched, attached=(), known=("1", "2"), kernel_seconds=3)
    assert made.surplus == ["3"]


def test_an_instance_that_has_served_and_is_away_for_good_stands_in_for_no_other() -> None:
    """Its machine may be cut off until its time ends: what waits gets another."""
    away = [_launched(1, running=500)]
    made = plan(SECTION, wanted=[_wanted(4)], launched=away, attached=(), known=("1",), kernel_seconds=600)
    assert (_starts(made), made.stuck) == (["small"], [])
    made = plan(SECTION, wanted=[_wanted(4)], launched=away, attached=(), known=("1",), kernel_seconds=20)
    assert made.starts == []


def test_an_instance_that_does_not_attach_in_time_is_ended() -> None:
    """It runs for longer than it may take to attach; one that waits for a machine is patient."""
    launched = [_launched(1, running=61), _launched(2, running=59), _launched(3), _launched(4, running=500)]
    assert plan(SECTION, wanted=[_wanted(20)], launched=launched, attached=("4",)).stuck == ["1"]


def _own(number: int, **fields: object) -> WantedView:
    return structs.replace(_wanted(1), attempt_key=f"run/fit/{number}", **fields)  # type: ignore[arg-type]  # of the test


def _started_for(number: int, running: float | None = None) -> Launched:
    return replace(_launched(number, running=running), attempt_key=f"run/fit/{number}")


def test_an_attempt_of_its_own_gets_one_instance_for_as_long_as_the_engine_lists_it() -> None:
    """An instance that has attached, or is for another attempt, or for any, changes nothing in that."""
    launched = [_started_for(1), _started_for(2, running=3), _started_for(3, running=9), _launched(4)]
    made = plan(
        replace(SECTION, max_instances=50),
        wanted=[*map(_own, range(1, 6)), _wanted(5)],
        launched=launched,
        attached=("3",),
    )
    assert [each.attempt_key for each in made.starts] == ["run/fit/4", "run/fit/5", ""]
    assert made.surplus == []


def test_an_instance_for_an_attempt_leaves_the_queue_with_it() -> None:
    """One that has a machine is refused by the kernel, and ends by itself; what any step may use is left alone."""
    launched = [_started_for(1), _started_for(2), _started_for(3, running=3), _launched(4)]
    made = plan(SECTION, wanted=[_own(1), _wanted(1)], launched=launched, attached=())
    assert (_starts(made), made.surplus) == ([], ["2"])


def test_what_has_waited_longest_is_started_first() -> None:
    """Attempts with instances of their own and the others take turns by age: neither kind keeps the other waiting."""
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    wanted = [_own(number, since=noon + timedelta(seconds=number)) for number in (1, 3)]
    wanted.append(structs.replace(_wanted(100), since=noon + timedelta(seconds=2)))
    made = plan(replace(SECTION, max_instances=3), wanted=wanted, launched=[], attached=())
    assert [each.attempt_key for each in made.starts] == ["run/fit/1", "", ""]


def test_an_image_is_started_only_where_the_engine_has_images() -> None:
    """Slurm has none: nothing is started, and the launcher says for what."""
    made = plan(SECTION, wanted=[_own(1, image="team/train:2")], launched=[], attached=())
    assert (made.starts, made.unmet) == ([], ["a step of host 'team' wants image 'team/train:2': slurm has no images"])
    made = plan(replace(SECTION, engine="kubernetes"), wanted=[_own(1, image="team/train:2")], launched=[], attached=())
    assert [(each.attempt_key, each.image) for each in made.starts] == [("run/fit/1", "team/train:2")]
