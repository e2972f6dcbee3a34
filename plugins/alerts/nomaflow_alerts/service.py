"""AlertsService, on a Unix socket of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import grpc

from nomaflow.client import ClientError, InvalidRequest, KernelClient, NotFound, PermissionDenied
from nomaflow.client.values import from_micros
from nomaflow_alerts.heartbeat import Pulse
from nomaflow_alerts.ledger import Book, Incident, Ledger, Message, Mute
from nomaflow_alerts.messages.grouping_and_digests import Composer
from nomaflow_alerts.messages.harmless_text import plain
from nomaflow_alerts.messages.payload import payload
from nomaflow_alerts.messages.wording import JOB_CONDITIONS, title
from nomaflow_alerts.messages.writing import Subject
from nomaflow_alerts.rules.policies import Policies
from nomaflow_alerts.sending import Sender
from nomaflow_api.v1 import alerts_service_pb2 as service
from nomaflow_api.v1.alerts_service_pb2_grpc import AlertsServiceServicer
from nomaflow_api.v1.message_codec import encode
from nomaflow_api.version import VERSION
from nomaflow_project.models.alerts_section import AlertsSection
from nomaflow_project.reading.problems import did_you_mean

_LISTED, _MOST = 200, 1000
_MESSAGES = 50
_STATES = ("pending", "sent", "undeliverable")
_LONGEST_MUTE = 90 * 86_400.0
_KERNEL_SECONDS = 2.0
"""How long a call waits for the kernel to say whether it has a job or a host."""


class AlertsCalls(AlertsServiceServicer):
    """Answers command line and console.

    :param calls: a client of the kernel
    """

    def __init__(
        self,
        *,
        calls: KernelClient,
        ledger: Ledger,
        alerts: AlertsSection,
        policies: Policies,
        sender: Sender,
        pulse: Pulse,
        composer: Composer,
        changed: Callable[[], None],
    ) -> None:
        self._calls, self._ledger, self._alerts, self._policies = calls, ledger, alerts, policies
        self._sender, self._pulse, self._composer, self._changed = sender, pulse, composer, changed
        self._started_at = datetime.now(UTC)

    async def GetAlerts(self, request: Any, context: Any) -> Any:  # noqa: N802  # the rpc's name
        """Return the state of the process."""

        def read(book: Book) -> service.GetAlertsResponse:
            return encode(
                service.GetAlertsResponse,
                version=VERSION,
                pid=os.getpid(),
                started_at=self._started_at,
                last_event_seq=int(book.fact("seq") or 0),
                kernel_heard_at=_at(self._pulse.heard_at or None),
                channels=[self._channel(book, name) for name in self._alerts.channels],
                mutes=list(map(_mute_message, book.mutes)),
                open=book.count_open(),
                heartbeat=bool(self._alerts.heartbeat_url),
                heartbeat_at=_at(self._pulse.beat_at or None),
                heartbeat_withheld=self._pulse.withheld if self._alerts.heartbeat_url else "",
            )

        return await self._ledger.run(read)

    async def ListIncidents(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return incidents."""
        limit = await _limit(request, _LISTED, context)

        def read(book: Book) -> service.ListIncidentsResponse:
            found = book.listed_incidents(
                job_id=request.job_id, host=request.host, closed=request.include_closed, limit=limit
            )
            messages = [_incident_message(book, each) for each in found]
            return service.ListIncidentsResponse(incidents=messages, open=book.count_open())

        listed = await self._ledger.run(read)
        if not listed.incidents:
            await _refuse(context, await self._unknown(request.job_id, request.host))
        return listed

    async def ListMessages(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return messages."""
        limit = await _limit(request, _MESSAGES, context)
        if request.state not in ("", *_STATES):
            await _refuse(context, f"there is no state {request.state!r}; the states are {', '.join(_STATES)}")
        found = await self._ledger.run(
            lambda book: book.outbox.listed(channel=request.channel, state=request.state, limit=limit)
        )
        if not found and request.channel:  # the messages of a channel stay when it is removed
            await self._check_channels([request.channel], context)
        return service.ListMessagesResponse(messages=map(_message, found))

    async def Mute(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Keep a mute."""
        now, until = datetime.now(UTC).timestamp(), request.until.seconds + request.until.nanos / 1e9
        problem = _target_problem(request)
        if not request.by.strip() or not request.why.strip():
            problem = "a mute needs who mutes (by) and a reason (why): people who miss a message read it"
        elif not now < until <= now + _LONGEST_MUTE:
            problem = "a mute needs an end (until) in the future, at most 90 days ahead"
        await _refuse(context, problem or await self._unknown(request.job_id, request.host))
        mute = Mute(
            job_id=request.job_id, host=request.host, by=request.by[:200], why=request.why[:500], since=now, until=until
        )
        await self._ledger.run(lambda book: book.mute(mute))
        self._changed()
        return service.MuteResponse(mute=_mute_message(mute))

    async def _unknown(self, job_id: str, host: str) -> str:
        """Return the problem of a job or host that the kernel does not have; empty if it is away.

        What has an open incident may be gone from the kernel.
        """
        found = await self._ledger.run(
            lambda book: book.listed_incidents(job_id=job_id, host=host, closed=False, limit=1)
        )
        if found:
            return ""
        try:
            async with asyncio.timeout(_KERNEL_SECONDS):
                await self._calls.check_names(job_id=job_id, host=host)
        except (NotFound, PermissionDenied, InvalidRequest) as error:
            return error.advice
        except (ClientError, TimeoutError):
            return ""
        return ""

    async def Unmute(self, request: Any, context: Any) -> Any:  # noqa: N802
        """End a mute."""
        await _refuse(context, _target_problem(request))
        was = await self._ledger.run(lambda book: book.unmute(job_id=request.job_id, host=request.host))
        if not was:
            await _refuse(context, await self._unknown(request.job_id, request.host))
        self._changed()
        return service.UnmuteResponse(was_muted=was)

    async def TestChannels(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Send a test by each channel, and wait for the first try of each."""
        await self._check_channels(request.channels, context)
        await _refuse(context, _condition_problem(request) or await self._unknown(request.job_id, ""))
        usual = self._policies.rules(request.job_id).channels if request.job_id else self._alerts.channels
        results = await asyncio.gather(*(self._try(name, request) for name in request.channels or usual))
        return service.TestChannelsResponse(results=results)

    async def _check_channels(self, names: Iterable[str], context: Any) -> None:
        """Refuse names that no channel has."""
        unknown = [name for name in names if name not in self._alerts.channels]
        if unknown:
            known = ", ".join(self._alerts.channels)
            await _refuse(context, f"there is no channel {unknown[0]!r}; the channels are {known}")

    async def _try(self, name: str, request: service.TestChannelsRequest) -> service.TestedChannel:
        began, now = asyncio.get_running_loop().time(), datetime.now(UTC).timestamp()
        message = _test_message(self._composer, self._policies, request, channel=name, now=now)
        answer = self._sender.tried(message.id)
        await self._ledger.run(lambda book: book.outbox.add(message))
        self._sender.wake()
        error = await answer
        took = asyncio.get_running_loop().time() - began
        return service.TestedChannel(channel=name, sent=not error, error=error, seconds=took, message_id=message.id)

    def _channel(self, book: Book, name: str) -> service.AlertChannel:
        sent, failed = (book.outbox.last_done(name, sent=sent) for sent in (True, False))
        return encode(
            service.AlertChannel,
            name=name,
            type=self._alerts.channels[name].type,
            sent_at=_at(sent.done_at if sent else None),
            failed_at=_at(failed.done_at if failed else None),
            error=failed.error if failed else "",
            pending=book.outbox.pending(name),
            undeliverable=book.outbox.undeliverable(name),
        )


def _test_message(
    composer: Composer, policies: Policies, request: service.TestChannelsRequest, *, channel: str, now: float
) -> Message:
    """Return a test: a real message, marked, of an incident that has not happened."""
    job_id = request.job_id
    incident = Incident(
        id=0, key="test", condition=request.condition or ("failed" if job_id else "test"), job_id=job_id, preset="",
        host=policies.host_of(job_id), run_id="", severity=policies.rules(job_id).severity, count=1, opened_at=now,
        why=f"{request.by or 'somebody'} tests the channel {channel!r}; nothing has happened",
        last_at=now, closed_at=None, told_at=None, told_count=0, behind=0, channels=(channel,), facts={},
        tells_end=True,
    )  # fmt: skip
    about = Subject(kind="opened", incidents=[incident], now=now, console_url=composer.console_url)
    subject, body = composer.texts(about)
    head = subject if job_id else f"Nomaflow reaches you by {plain(channel)}"
    return Message(
        channel=channel, kind="test", subject=f"[test] {head}", created_at=now, next_at=now,
        body=f"This is a test.\n{body}",
        data={"payload": {**payload(about, composer.masker), "type": "test"}},
    )  # fmt: skip


async def _limit(request: Any, usual: int, context: Any) -> int:
    """Return how many to list; a request for too many is refused, as the kernel does."""
    if request.limit > _MOST:
        await _refuse(context, f"limit is {request.limit}, expected at most {_MOST}")
    return request.limit or usual


async def _refuse(context: Any, problem: str) -> None:
    """End the call if there is a problem with its request."""
    if problem:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)


def _target_problem(request: service.MuteRequest | service.UnmuteRequest) -> str:
    """Return what is wrong with the target of a mute; empty if nothing is."""
    target = request.WhichOneof("target")
    if target is None or getattr(request, target):
        return ""
    return f"{target} is empty, expected a name; leave it out for everything"


def _condition_problem(request: service.TestChannelsRequest) -> str:
    """Return why a test of a condition cannot be sent; empty if it can."""
    name = request.condition
    if not name or (name in JOB_CONDITIONS and request.job_id):
        return ""
    if name in JOB_CONDITIONS:
        return f"the condition {name!r} is that of a job; name the job too, as with --job"
    return f"a job has no condition {name!r}; {did_you_mean(name, JOB_CONDITIONS, noun='condition')}"


def _incident_message(book: Book, incident: Incident) -> service.Incident:
    mute = book.mute_of(incident)
    return encode(
        service.Incident,
        incident,
        incident_id=incident.id,
        title=title(incident),
        why=plain(incident.why, most=600),
        opened_at=_at(incident.opened_at),
        last_at=_at(incident.last_at),
        closed_at=_at(incident.closed_at),
        told_at=_at(incident.told_at),
        mute=None if mute is None or not incident.is_open else _mute_message(mute),
    )


def _mute_message(mute: Mute) -> service.AlertMute:
    return encode(service.AlertMute, mute, since=_at(mute.since), until=_at(mute.until))


def _message(message: Message) -> service.AlertMessage:
    return encode(
        service.AlertMessage,
        message,
        message_id=message.id,
        created_at=_at(message.created_at),
        next_at=_at(message.next_at) if message.state == "pending" else None,
    )


def _at(seconds: float | None) -> datetime | None:
    return None if seconds is None else from_micros(round(seconds * 1_000_000))
