"""Determines the end of an attempt from its worker's report, the requests to stop it, and its worker's death."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import Finished
from nomaflow_api.v1.sealing import fitting
from nomaflow_host.supervisor.thread_dumps import fault_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow_host.supervisor.held_attempt import HeldAttempt
    from nomaflow_host.supervisor.values import StopRequest

_LIMITS = {
    "memory_limit": "the processes of its worker used more memory than memory_mb allows, and were killed",
    "process_limit": "its worker had more processes than max_processes allows, and they were killed",
}
_FAULTS = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGABRT: "an abort",
    signal.SIGBUS: "a bus error",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGILL: "an illegal instruction",
}


def finished_of(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> Finished:
    """Return the last event of an attempt whose code has stopped, with the worker's outcome unopened.

    :param exited: the reaper's message about its worker, None if the worker still lives
    """
    state, code, reason = _verdict(attempt, exited)
    peak_rss_bytes, cpu_seconds = _usage(attempt, exited)
    status, signum, text = _exit_of(attempt, exited)
    left = f"it left {attempt.left} running when it returned; the host has stopped them"
    return Finished(
        at_us=time.time_ns() // 1000,
        state=state,
        reason_code=code,
        reason=fitting(attempt.worker.masker.now.text(reason)) if reason else "",
        warnings=(left,) if attempt.left else (),
        peak_rss_bytes=peak_rss_bytes,
        cpu_seconds=cpu_seconds,
        not_started=not attempt.started,
        outcome=attempt.outcome,
        exit_status=status,
        exit_signal=signum,
        exit_text=text,
        dropped_lines=attempt.log.dropped_lines,
        dropped_bytes=attempt.log.dropped_bytes,
        stopped_at_us=attempt.stopped_at_us,
    )


def last_words(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> str:
    """Return a text for the log of an attempt whose worker has died: the reason, and the stack of a fault.

    Empty if the worker lives; without the reason if the worker, or a request to stop, has given one.
    """
    if exited is None:
        return ""
    told = attempt.stop is not None or attempt.returned is not None
    words = ("" if told else _verdict(attempt, exited)[2], fault_of(attempt.worker.dump()))
    return attempt.worker.masker.now.text("\n".join(filter(None, words)))


def may_be_the_hosts(attempt: HeldAttempt, exited: Mapping[str, Any]) -> bool:
    """Return whether a SIGTERM to the host, and to all of its processes, may have ended an attempt's worker.

    The template may have died of it before it had told of the worker, whose end is not known then.
    """
    if attempt.stop is not None or attempt.returned is not None:
        return False
    return attempt.started if "error" in exited else exited.get("signal") == signal.SIGTERM and exited["cause"] is None


def _exit_of(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> tuple[int | None, int, str]:
    """Return status, signal and description of the end of its worker's process; none if that lives on."""
    if exited is None:
        return None, 0, ""
    if "error" in exited:
        return None, 0, fitting(_unspawned(exited, started=attempt.started))
    status, signum = exited.get("code"), exited.get("signal")
    if signum == signal.SIGKILL and (exited.get("killed") or exited.get("cause")):
        return None, signum, "killed by SIGKILL, by its host"
    if signum is None:
        return status, 0, f"exit status {status}"
    return None, signum, said_of_exit(signum, None)


def _verdict(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> tuple[FinishedState, str, str]:
    """Return the state, and the host's own reason for it; none if the worker's outcome has one."""
    stop, note = attempt.stop, attempt.worker.kill_note
    if stop is not None:
        return stop.state, stop.reason_code, stop.reason
    if attempt.returned is not None:
        return attempt.returned, "", ""
    if exited is not None and exited.get("cause") is None and note is not None:
        return FinishedState.FAILED, "worker_killed", _killed(attempt, note.culprit, note.why)
    return FinishedState.FAILED, *death_of(exited or {}, shared=not attempt.exclusive, started=attempt.started)


def _killed(attempt: HeldAttempt, culprit: HeldAttempt | None, why: str) -> str:
    if culprit is None:
        return f"its worker was killed: {why}"
    order = culprit.order
    who = "it" if culprit is attempt else f"step {order.step!r} of run {order.run_id} ({order.callable})"
    return f"its shared worker was killed because {who} did not stop: {why}"


def _usage(attempt: HeldAttempt, exited: Mapping[str, Any] | None) -> tuple[int, float]:
    """Return the peak of resident bytes and the processor seconds."""
    if attempt.finished is not None:
        return int(attempt.finished["peak_rss_bytes"]), float(attempt.finished["cpu_seconds"])
    if exited is None or "cpu_seconds" not in exited:
        return 0, 0.0
    return int(exited["peak_rss_bytes"]), max(0.0, float(exited["cpu_seconds"]) - attempt.cpu_before)


def stop_sentence(stop: StopRequest) -> str:
    """Return the reason for a stop, for the ladder's lines."""
    return f"{stop.reason} ({stop.reason_code})"


def death_of(exited: Mapping[str, Any], *, shared: bool, started: bool) -> tuple[str, str]:
    """Return reason code and reason for a worker that ended unasked.

    :param exited: the reaper's message: ``code``, ``signal``, ``cause``
    :param shared: True if the code of another step may have ended it
    :param started: whether the step had begun: only one that has not may run again
    """
    cause = exited.get("cause")
    if cause in _LIMITS:
        return str(cause), _LIMITS[str(cause)]
    if "error" in exited:
        return "worker_died" if started else "host_refused", _unspawned(exited, started=started)
    cause_in_words = said_of_exit(exited.get("signal"), exited.get("code"))
    if shared:
        return "worker_died", f"its shared worker died, because of this step or another one in it: {cause_in_words}"
    return "worker_died", f"the worker died: {cause_in_words}"


def _unspawned(exited: Mapping[str, Any], *, started: bool) -> str:
    """Return in plain words what the reaper has told instead of a worker's start."""
    return f"the worker {'died' if started else 'could not be started'}: {exited['error']}"


def said_of_exit(signum: int | None, code: int | None) -> str:
    """Return in plain words how a process ended: by a signal, or with an exit code."""
    if signum is None:
        return f"code in it ended the process with exit code {code}"
    if signum == signal.SIGKILL:
        return "killed by the system, probably out of memory (signal 9, SIGKILL)"
    try:
        known = signal.Signals(signum)
    except ValueError:
        return f"ended by signal {signum} (a real-time signal)"
    fault = _FAULTS.get(known)
    return f"{fault} (signal {signum}, {known.name})" if fault else f"ended by signal {signum} ({known.name})"
