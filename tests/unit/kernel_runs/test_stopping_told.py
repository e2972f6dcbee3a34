"""The story of a stop: rungs are events in the order of the attempt, survive restarts, and end with the proof."""

from __future__ import annotations

from msgspec.structs import replace
from rig import START_US, Rig, canceled, finished, job, started, step

from nomaflow_api.v1.letters import InventoryLine, LogChunk, Stopping
from nomaflow_api.v1.log_lines import encode_line, pack_lines
from nomaflow_kernel.history.attempt_facts import NO_FACTS, AttemptFacts
from nomaflow_kernel.history.states import AttemptState

SECOND = 1_000_000


def rung(number: int, *, why: str = "not stopped") -> Stopping:
    """Return the report of a rung, a second after the one before."""
    at_us = START_US + number * SECOND
    next_at_us = at_us + SECOND if number < 4 else 0
    return Stopping(
        at_us=at_us, rung=number, what=f"did {number}", why=why, after_us=(number - 1) * SECOND, next_at_us=next_at_us
    )


def lines(count: int, *, lost: int = 0) -> LogChunk:
    """Return log lines, with some that the host has lost."""
    return replace(pack_lines([encode_line(20, START_US, "l", "x")] * count), lost_lines=lost)


def host_line(key: str) -> InventoryLine:
    """Return the inventory line of an attempt that runs."""
    return InventoryLine(attempt_key=key)


async def facts_of(rig: Rig, run_id: str) -> AttemptFacts:
    """Return what is stored of the newest attempt."""
    return (await rig.detail(run_id)).attempts[-1].facts


async def test_each_rung_is_an_event_and_stays_with_the_attempt(rig: Rig) -> None:
    """In the order in which the host took them, and no more of them than a ladder has."""
    rig.jobs.add(job("a", step("one")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.report(key, started(), rung(1, why="canceled by ann"))
    assert [each.rung for each in (await facts_of(rig, run_id)).rungs] == [1]
    await host.report(key, lines(1), rung(2), first_seq=3)
    await host.report(key, rung(3), *[rung(4)] * 20, first_seq=5)
    events = [event for event in await rig.events(run_id) if event.kind == "attempt.stopping"]
    assert [event.data["rung"] for event in events] == [1, 2, 3, 4, 4, 4, 4, 4]
    assert events[0].data == {
        "rung": 1, "what": "did 1", "why": "canceled by ann", "at_us": START_US + SECOND, "after_seconds": 0.0,
        "next_at_us": START_US + 2 * SECOND,
    }  # fmt: skip
    assert events[3].data["next_at_us"] is None
    assert (events[0].step, events[0].attempt) == ("one", 1)


async def test_the_rungs_survive_a_restart_and_end_with_the_proof(rig: Rig) -> None:
    """A kernel that is killed in the middle goes on with what it had, each rung once; so ends what was stopped."""
    rig.jobs.add(job("a", step("one")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.report(key, started(), rung(1))
    await rig.restart()
    await host.attach(inventory=[host_line(key)])
    await host.report(key, rung(1), rung(2), first_seq=2)
    end = replace(
        canceled(), stopped_at_us=START_US + 3 * SECOND, exit_signal=9, exit_text="killed by SIGKILL, by its host",
        warnings=("it left a thread",),
    )  # fmt: skip
    await host.report(key, end, first_seq=4)
    detail = await rig.detail(run_id)
    assert detail.attempts[-1].state is AttemptState.CANCELED
    facts = detail.attempts[-1].facts
    assert [each.rung for each in facts.rungs] == [1, 2]
    assert (facts.stopped_at_us, facts.exit_signal, facts.exit_text) == (
        START_US + 3 * SECOND, 9, "killed by SIGKILL, by its host",
    )  # fmt: skip
    assert (facts.warnings, facts.complete) == (("it left a thread",), True)


async def test_a_log_is_complete_once_the_last_report_is_stored(rig: Rig) -> None:
    """The log is incomplete before that, and for ever if the host has lost lines or events."""
    rig.jobs.add(job("a", step("one"), step("two"), step("three")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.report(key, started(), lines(3))
    assert (await facts_of(rig, run_id)) == NO_FACTS
    await host.report(key, lines(1), finished(), first_seq=3)
    key = (await host.dispatch(2)).attempt_key
    await host.report(key, started(), lines(1, lost=7))
    await rig.restart()
    await host.attach(inventory=[host_line(key)])
    await host.report(key, lines(1, lost=2), replace(finished(), dropped_lines=5, dropped_bytes=50), first_seq=3)
    key = (await host.dispatch(3)).attempt_key
    await host.report(key, started(), replace(finished(), lines_lost=True))
    one, two, three = (attempt.facts for attempt in (await rig.detail(run_id)).attempts)
    assert one == AttemptFacts(complete=True)
    assert two == AttemptFacts(lost_lines=9, dropped_lines=5, dropped_bytes=50, complete=False)
    assert three == AttemptFacts()
    logs = await rig.store.attempt_logs(run_id)
    assert {key: (log.first_seq, log.last_seq, log.lines, log.levels) for key, log in logs.items()} == {
        ("one", 1): (1, 4, 4, 4), ("two", 1): (5, 6, 2, 4),
    }  # fmt: skip


async def test_an_attempt_says_whether_its_worker_was_its_own(rig: Rig) -> None:
    """As its host reported when it started."""
    rig.jobs.add(job("a", step("one")))
    host = await rig.host()
    run_id = (await rig.trigger("a")).run_id
    key = (await host.dispatch()).attempt_key
    await host.report(key, replace(started(), exclusive=True))
    assert (await rig.detail(run_id)).attempts[0].exclusive
