"""The letters about attempts: what the kernel asks of a host, and what the host reports.

A letter is a struct that is sealed (encoded) where it is born and opened (decoded) where it is used. The messages of
``host_gateway_service.proto`` carry it as bytes. Whoever is in between reads the envelope only: a `DispatchOrder` holds
the sealed `AttemptOrder` that the worker opens, a `Finished` the sealed `CallOutcome` that the kernel opens.

The format is msgpack: a map of field names to values, without the fields that have their defaults. A reader ignores
fields that it does not know, so fields may be added. Annotations bound what a reader accepts. Times are microseconds
since the epoch, by the clock of the sender.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nomaflow_api.bounds import LAST_MOMENT_US, MOST_NUMBER, MOST_SMALL_NUMBER, REPORTED_EVENTS
from nomaflow_api.v1.letter_words import (
    AckStatus,
    FinishedState,
    Isolation,
    LogCodec,
    TimeoutKind,
    VerdictAction,
)

MAX_TEXT = 16 * 1024
"""The longest text in a letter, in characters."""
_MAX_BODY_BYTES = 1024 * 1024

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Texts = Annotated[tuple[Text, ...], Meta(max_length=100)]
Code = Annotated[str, Meta(max_length=64)]
Key = Annotated[str, Meta(max_length=400, pattern=r"^[^/\0]+/.+/[0-9]+$")]
Moment = Annotated[int, Meta(ge=0, le=LAST_MOMENT_US)]
Rows = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=MOST_NUMBER)]
Small = Annotated[int, Meta(ge=0, le=MOST_SMALL_NUMBER)]


class Letter(Struct, frozen=True, omit_defaults=True, gc=False):
    """The base of all letters: immutable, compared by value, without reference cycles."""


# --- what is asked ----------------------------------------------------------------------------------------------------
class AttemptOrder(Letter, frozen=True, kw_only=True):
    """The call to make. Only the worker that makes it opens this letter.

    :param attempt_key: ``run/step/attempt``, the fencing and idempotency token
    :param attempt: counts from 1
    :param callable: the reference, such as ``myapp.cleanup:purge_old_sessions``
    :param kwargs_json: JSON object of all layers merged, environment references unresolved; empty means ``{}``
    :param strict_keys: the keys of ``kwargs_json`` that came from op_kwargs: the callable must be able to take them
    :param literal_kwargs: the keys of ``kwargs_json`` in whose values no reference is resolved: those of no own file
    :param params_json: JSON object of the merged params, for ``ctx.params``; empty means ``{}``
    :param literal_params: the same of ``params_json``
    :param secret_keys: the keys of both whose values are masked in all that is written down
    :param prev_rows_affected: that of the last step that ran; None for the first, or if it reported none
    :param parent_chain: the chain of call_job ancestors, root first, as pairs of job id and run id
    :param previous_steps_json: JSON array of ``{"name", "state", "rows_affected", "extras"}``; empty means ``[]``
    :param timeout_ms: milliseconds from the start of the callable; 0 means no limit
    """

    attempt_key: str
    run_id: str
    job_id: str
    step: str
    attempt: int
    callable: str
    kwargs_json: bytes = b""
    strict_keys: tuple[str, ...] = ()
    literal_kwargs: tuple[str, ...] = ()
    params_json: bytes = b""
    literal_params: tuple[str, ...] = ()
    secret_keys: tuple[str, ...] = ()
    trigger_kind: str = "api"
    trigger_by: str = ""
    trigger_at_us: int = 0
    prev_rows_affected: int | None = None
    parent_chain: tuple[tuple[str, str], ...] = ()
    previous_steps_json: bytes = b""
    timeout_ms: int = 0
    log_level: str = "INFO"


class DispatchOrder(Letter, frozen=True, kw_only=True):
    """The envelope of an order to run one attempt: what the host's main process needs to run and to stop it.

    The host refuses an epoch lower than it has seen, and a key it accepted before starts nothing.

    :param epoch: the kernel's
    :param timeout_ms: milliseconds from the start of the callable; 0 means no limit
    :param cancel_grace_ms: milliseconds between the request to stop and force; None means the host's own setting
    :param retry_on_lost: allows the host to kill it when it has not heard from the kernel for ``grace_ms``
    :param grace_ms: the job's lost_after_seconds in milliseconds; 0 means that of the kernel's welcome
    :param max_log_bytes: bounds its log; what is over is dropped with one marker and exact counts; 0 means no bound
    :param traceparent: the W3C trace context of the trigger; empty for none
    :param reported: whether the kernel has had events of it: a host that no longer knows the key does not start it
    :param order: the sealed `AttemptOrder`; empty if ``reported``, since nothing is started
    """

    attempt_key: str
    epoch: int
    callable: str
    isolation: Isolation = Isolation.BY_KIND
    timeout_ms: int = 0
    timeout_kind: TimeoutKind = TimeoutKind.NONE
    cancel_grace_ms: int | None = None
    retry_on_lost: bool = False
    grace_ms: int = 0
    max_log_bytes: int = 0
    traceparent: str = ""
    reported: bool = False
    order: bytes = b""

    @property
    def run_id(self) -> str:
        """The run that the attempt belongs to."""
        return self.attempt_key.partition("/")[0]

    @property
    def step(self) -> str:
        """The step's name."""
        return self.attempt_key.partition("/")[2].rpartition("/")[0]


class CheckedStep(Letter, frozen=True, kw_only=True):
    """One step with the values that it would be called with, to be checked without a call.

    :param kwargs_json: as in `AttemptOrder`
    :param strict_keys: as in `AttemptOrder`
    :param given_keys: the keys of ``kwargs_json`` that the caller gave: only these are checked, and as they are
    :param secret_keys: as in `AttemptOrder`
    """

    step: str
    callable: str
    kwargs_json: bytes = b""
    strict_keys: tuple[str, ...] = ()
    given_keys: tuple[str, ...] = ()
    secret_keys: tuple[str, ...] = ()


class ValueProblem(Letter, frozen=True, kw_only=True):
    """One value that its callable would refuse.

    :param message: one sentence
    """

    step: Text
    key: Text
    message: Text


class CancelOrder(Letter, frozen=True, kw_only=True):
    """An order to stop an attempt.

    :param by: who asked
    :param why: the reason given, may be empty
    :param reason_code: becomes the attempt's reason, such as ``canceled_by_user``
    """

    attempt_key: str
    by: str = ""
    why: str = ""
    reason_code: str = "canceled_by_user"


# --- what happened ----------------------------------------------------------------------------------------------------
class Started(Letter, frozen=True, kw_only=True, tag="started", tag_field="is"):
    """The callable is about to be called.

    :param generation: the load of plugin code
    :param exclusive: True if no other attempt shares its worker
    """

    at_us: Moment
    worker_pid: Small
    generation: Number
    exclusive: bool = False


class LogChunk(Letter, frozen=True, kw_only=True, tag="log", tag_field="is"):
    """A block of consecutive log lines, packed as ``nomaflow_api.v1.log_lines`` describes.

    :param levels: bit n is set if the chunk holds a line of level 10·n up to 10·n+9; 60 and more set bit 6
    :param lost_lines: lines that belong here and that the host has lost, such as those on a disk that cannot be read
    """

    line_count: Annotated[int, Meta(ge=1, le=1_000_000)]
    first_at_us: Moment
    last_at_us: Moment
    levels: Small
    codec: LogCodec
    body: Annotated[bytes, Meta(min_length=1, max_length=_MAX_BODY_BYTES)]
    lost_lines: Number = 0


class Progress(Letter, frozen=True, kw_only=True, tag="progress", tag_field="is"):
    """The last report of ``ctx.progress``."""

    at_us: Moment
    done: float
    total: float | None = None
    message: Text = ""


class Stopping(Letter, frozen=True, kw_only=True, tag="stopping", tag_field="is"):
    """A rung of the ladder by which the attempt is being stopped.

    :param rung: 1 asked, 2 SIGTERM to children, 3 SIGTERM to worker, 4 SIGKILL; the first ones may be left out
    :param what: what the host has just done
    :param why: why; for a later rung, why the one before was not enough
    :param after_us: microseconds since the first rung
    :param next_at_us: when the next rung follows if the code has not stopped by then; 0 on the last
    """

    at_us: Moment
    rung: Annotated[int, Meta(ge=1, le=4)]
    what: Text
    why: Text = ""
    after_us: Number = 0
    next_at_us: Moment = 0


class Finished(Letter, frozen=True, kw_only=True, tag="finished", tag_field="is"):
    """The end of an attempt, always its last event. Made only after its code has provably stopped.

    :param reason_code: the host's own verdict, if it stopped the attempt or its worker died; empty if the outcome says
        how it ended
    :param error: the host's own words, if there is no outcome
    :param warnings: the host's own notes, besides those of the outcome
    :param peak_rss_bytes: the largest resident size of the worker; 0 if it was not measured
    :param cpu_seconds: the processor time of the worker's tree; 0 if it was not measured
    :param not_started: True if it failed before the callable was called, as far as the host knows
    :param outcome: the sealed `CallOutcome`; empty if the callable came to none
    :param exit_status: that of its worker's process; None if that lives on, was ended by a signal or is not known
    :param exit_signal: the signal that ended that process; 0 for none
    :param exit_text: how it ended, in words; empty if it lives on
    :param dropped_lines: lines of its log that were over its limit
    :param dropped_bytes: the bytes of those
    :param lines_lost: True if events of it are missing, with unknown lines
    :param stopped_at_us: when none of its code ran any more, if it was stopped by the ladder; else 0
    """

    at_us: Moment
    state: FinishedState
    reason_code: Code = ""
    reason: Text = ""
    error: Text = ""
    warnings: Texts = ()
    peak_rss_bytes: Number = 0
    cpu_seconds: float = 0.0
    not_started: bool = False
    outcome: bytes = b""
    exit_status: Annotated[int, Meta(ge=-(2**31), le=MOST_SMALL_NUMBER)] | None = None
    exit_signal: Small = 0
    exit_text: Text = ""
    dropped_lines: Number = 0
    dropped_bytes: Number = 0
    lines_lost: bool = False
    stopped_at_us: Moment = 0


Event = Started | LogChunk | Progress | Stopping | Finished


class CallOutcome(Letter, frozen=True, kw_only=True):
    """The end of a callable, before it is known whether a stop was requested. Credentials are masked in all of it.

    :param exception_types: qualified names of the raised exception's classes, most derived first, for retry_on
    :param extras_json: a JSON object in UTF-8; empty for none
    :param warnings: notes on the result, such as extras over 64 KiB
    :param cancelled_error: True if it ended by a CancelledError
    :param not_started: True if it failed before the callable was called
    """

    state: FinishedState
    reason_code: Code = ""
    reason: Text = ""
    error: Text = ""
    exception_types: Texts = ()
    rows_affected: Rows | None = None
    extras_json: Annotated[bytes, Meta(max_length=2 * _MAX_BODY_BYTES)] = b""
    has_result: bool = False
    warnings: Texts = ()
    cancelled_error: bool = False
    not_started: bool = False


class AttemptReport(Letter, frozen=True, kw_only=True):
    """Consecutive sealed events of one attempt.

    :param first_seq: the number of the first event; the others follow without a gap
    """

    attempt_key: Key
    first_seq: Annotated[int, Meta(ge=1, le=MOST_NUMBER)]
    events: Annotated[tuple[bytes, ...], Meta(max_length=REPORTED_EVENTS)] = ()


class AttemptAck(Letter, frozen=True, kw_only=True):
    """The kernel's answer to one attempt's report.

    :param acknowledged_seq: the highest contiguous event number that is durable
    :param detail: the reason, if the status is not OK
    """

    attempt_key: str
    acknowledged_seq: int
    status: AckStatus = AckStatus.OK
    detail: str = ""


# --- what is held -----------------------------------------------------------------------------------------------------
class InventoryLine(Letter, frozen=True, kw_only=True):
    """One attempt that a host has accepted and may still report on.

    :param ended: whether only reports of it are left
    """

    attempt_key: Key
    ended: bool = False


class Verdict(Letter, frozen=True, kw_only=True):
    """The kernel's answer to one attempt of an inventory.

    :param acknowledged_seq: the highest event number already committed
    :param cancel: the request to stop, for ``VerdictAction.CANCEL``
    """

    attempt_key: str
    action: VerdictAction
    acknowledged_seq: int = 0
    cancel: CancelOrder | None = None
