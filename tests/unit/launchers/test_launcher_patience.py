"""The patience of a launcher with instances that end before they serve."""

from __future__ import annotations

from dataclasses import replace

from nomaflow_launchers.planning import Launched
from nomaflow_launchers.start_pauses import Patience


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _launched(number: int) -> Launched:
    return Launched(engine_id=str(number), host="team", shape="small")


def test_each_failure_doubles_the_wait_until_one_serves() -> None:
    """The wait is five minutes at most; an instance that serves ends it, and one that has served is no failure."""
    clock = _Clock()
    patience = Patience(first_seconds=20, clock=clock, log_of=str)
    for number, wait in enumerate([20, 40, 80, 160, 300, 300]):
        patience.look([_launched(number)], (), ended=())
        assert patience.may_start("team")
        patience.look([], (), ended=())
        clock.now += wait - 1
        assert not patience.may_start("team"), wait
        assert patience.may_start("other")
        clock.now += 1
        assert patience.may_start("team"), wait
    patience.look([_launched(9)], (), ended=())
    patience.look([_launched(9)], ("9",), ended=())
    patience.look([], (), ended=())
    assert patience.may_start("team")
    patience.look([_launched(10)], (), ended=())
    patience.look([], (), ended=())
    clock.now += 20
    assert patience.may_start("team")


def test_what_the_launcher_takes_back_is_no_failure() -> None:
    """Instances that were no longer wanted, or ended for not attaching in time, have a reason that is known."""
    patience = Patience(first_seconds=20, clock=_Clock(), log_of=str)
    patience.look([_launched(1)], (), ended=())
    patience.look([], (), ended=("1",))
    assert patience.may_start("team")


def test_one_that_ends_before_the_engine_lists_it_is_a_failure() -> None:
    """A container that cannot run its command is over before the next look."""
    patience = Patience(first_seconds=20, clock=_Clock(), log_of=str)
    patience.started("1", "team")
    patience.look([], (), ended=())
    assert not patience.may_start("team")


def test_an_instance_whose_attempt_is_over_has_not_failed() -> None:
    """It may have run it between two looks, or somebody has canceled it; one whose attempt still waits has failed."""
    patience = Patience(first_seconds=20, clock=_Clock(), log_of=str)
    own = replace(_launched(1), attempt_key="run/fit/1")
    patience.look([own], (), ended=(), wanted=("run/fit/1",))
    patience.look([], (), ended=(), wanted=())
    assert patience.may_start("team")
    patience.look([own], (), ended=(), wanted=("run/fit/1",))
    patience.look([], (), ended=(), wanted=("run/fit/1",))
    assert not patience.may_start("team")
