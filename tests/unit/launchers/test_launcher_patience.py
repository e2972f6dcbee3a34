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


def _patience(clock: _Clock | None = None) -> Patience:
    return Patience(first_seconds=20, seen_seconds=600, clock=clock or _Clock(), log_of=str)


def test_each_failure_doubles_the_wait_until_one_serves() -> None:
    """The wait is five minutes at most; an instance that serves ends it, and one that has served is no failure."""
    clock = _Clock()
    patience = _patience(clock)
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
    patience = _patience()
    patience.look([_launched(1)], (), ended=())
    patience.look([], (), ended=("1",))
    assert patience.may_start("team")


def test_one_that_ends_before_the_engine_lists_it_is_a_failure() -> None:
    """A container that cannot run its command is over before the next look."""
    patience = _patience()
    patience.started("1", "team")
    patience.look([], (), ended=())
    assert not patience.may_start("team")


def test_an_instance_whose_attempt_is_over_has_not_failed() -> None:
    """It may have run it between two looks, or somebody has canceled it; one whose attempt still waits has failed."""
    patience = _patience()
    own = replace(_launched(1), attempt_key="run/fit/1")
    patience.look([own], (), ended=(), wanted=("run/fit/1",))
    patience.look([], (), ended=(), wanted=())
    assert patience.may_start("team")
    patience.look([own], (), ended=(), wanted=("run/fit/1",))
    patience.look([], (), ended=(), wanted=("run/fit/1",))
    assert not patience.may_start("team")


def test_nothing_is_known_of_what_happened_since_a_look_of_long_ago() -> None:
    """The engine, or the kernel, was away: the instance may have served meanwhile, and left since it was idle."""
    clock = _Clock()
    patience = _patience(clock)
    own = replace(_launched(2), host="other", attempt_key="run/fit/1")
    patience.look([_launched(1), own], (), ended=(), wanted=("run/fit/1",))
    clock.now += 601
    patience.look([], (), ended=(), wanted=("run/fit/1",))
    assert patience.may_start("team")
    assert not patience.may_start("other"), "its attempt still waits for an instance"


def test_one_that_has_served_and_is_away_has_not_failed() -> None:
    """Its connection broke, or another kernel leads and does not know it yet; then its time was over."""
    patience = _patience()
    patience.look([_launched(1)], (), served=("1",), ended=())
    patience.look([], (), ended=())
    assert patience.may_start("team")
