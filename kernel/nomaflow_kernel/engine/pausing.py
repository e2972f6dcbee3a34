"""Pauses of a job, a host or everything: set, ended on request, or by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow_kernel.engine.state import Batch, EngineState, Timer
from nomaflow_kernel.engine.timers import TimerKind
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.history.transitions import ClearPause, SetPause

_ENDED_PAUSE_SECONDS = 60.0
_LOOK_SECONDS = 5.0
"""Seconds until a pause ends, at the latest, if the wall clock is set to after its end."""


def set_pause(state: EngineState, batch: Batch, pause: PauseRecord) -> None:
    """Keep a pause; it replaces one of the same scope and name."""
    batch.add(SetPause(pause=pause))
    state.pauses[pause.scope, pause.name] = pause
    _set_timer(state, pause, batch.now, batch.now_us)


def clear_pause(state: EngineState, batch: Batch, scope: str, name: str, *, by: str = "") -> bool:
    """End a pause and have the runs that it held up checked; return whether there was one.

    :param by: who ends it; empty if it ends by itself
    """
    if state.pauses.pop((scope, name), None) is None:
        return False
    batch.add(ClearPause(scope=scope, name=name, by=by))
    state.dirty_hosts.update(state.waiting.hosts())
    return True


def end_pause(state: EngineState, batch: Batch, subject: str) -> None:
    """End the pause of a timer if its time is up by the wall clock, in which its end was given."""
    scope, name = subject.split("/", 1)
    pause = state.pauses.get((scope, name))
    if pause is None:
        return  # it was ended on request
    if pause.ends_by(batch.now_us):
        clear_pause(state, batch, scope, name)
    else:
        _set_timer(state, pause, batch.now, batch.now_us)


def restore_pauses(state: EngineState, pauses: Sequence[PauseRecord], now: float, now_us: int) -> None:
    """Take the stored pauses, with a timer for the end of each."""
    state.pauses = {(pause.scope, pause.name): pause for pause in pauses}
    for pause in pauses:
        if pause.ends_by(now_us):
            # A pause that ended while the kernel was down stays for a while: the fires in its time are only judged now.
            state.timers.put(_timer(pause), now + _ENDED_PAUSE_SECONDS)
        else:
            _set_timer(state, pause, now, now_us)


def _set_timer(state: EngineState, pause: PauseRecord, now: float, now_us: int) -> None:
    left = None if pause.until_us is None else (pause.until_us - now_us) / 1_000_000
    state.timers.put(_timer(pause), None if left is None else now + min(left, _LOOK_SECONDS))


def _timer(pause: PauseRecord) -> Timer:
    return TimerKind.PAUSE_END, f"{pause.scope}/{pause.name}"
