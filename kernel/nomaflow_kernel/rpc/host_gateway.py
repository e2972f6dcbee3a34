"""HostGatewayService: the calls of hosts, on top of the engine and the catalogue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Literal

from msgspec import structs

from nomaflow_api.addresses import is_tcp
from nomaflow_api.v1 import host_gateway_service_pb2 as gateway
from nomaflow_api.v1.letters import Verdict
from nomaflow_api.v1.sealing import LetterError, open_reports, seal
from nomaflow_kernel.access.audit_texts import named
from nomaflow_kernel.access.audited_calls import audit_about
from nomaflow_kernel.access.principals import Caller, NotPermitted, PrincipalKind
from nomaflow_kernel.domain.errors import BadRequest, KernelError, KernelStopping, StaleSession
from nomaflow_kernel.engine.host_messages import InstanceHello
from nomaflow_kernel.hosts.incoming import PROTOCOL_MAX, check_incarnation, read_heartbeat, read_hello, read_load
from nomaflow_kernel.hosts.manifest import open_manifest
from nomaflow_kernel.hosts.session import Session
from nomaflow_kernel.rpc.parts import Calls, KernelParts

_LOG = logging.getLogger(__name__)
_HELLO_SECONDS = 10.0
_MOST_MS = 2**32 - 1  # 49 days; longer times are cut to it
_LOGGED = 200
_HELD_OF_ATTACH, _TOLD_OF_REPORT, _WORKERS_OF_HEARTBEAT, _BYTES_OF_MANIFEST = 1000, 16, 20, 64 * 1024
"""The number of items in such a call that cost a host as much as the call itself."""


class HostGateway(Calls):
    """Serves the calls of hosts about sessions, reports and manifests."""

    def __init__(self, parts: KernelParts) -> None:
        super().__init__(parts)
        self._info, self._audit, self._quotas = parts.info, parts.audit, parts.quotas
        self._introducing: dict[str, asyncio.Lock] = {}

    async def attach(
        self, requests: AsyncIterator[gateway.AttachRequest], caller: Caller
    ) -> AsyncIterator[gateway.AttachResponse]:
        """Hold one session: welcome the instance, then send messages until either side ends it.

        :raises KernelError: if the instance is refused, or the kernel ends the session
        """
        proved = _proved_name(caller)
        hello, protocol = await self._read_hello(requests, caller)
        if proved not in ("", hello.host):
            _LOG.warning("%s on %s may not attach as host %s", caller.principal, hello.machine[:64], hello.host)
            raise NotPermitted(caller.principal, "attach as", f"host:{hello.host}")
        self._quotas.call(caller.principal, "Attach", len(hello.inventory) / _HELD_OF_ATTACH)
        if hello.refused_load is not None:
            self._quotas.call(caller.principal, "LoadState")
        digest = hello.heartbeat.manifest_digest
        wanted = bool(digest) and (
            (not hello.for_attempt and await self._is_news(hello, digest, hello.heartbeat.loaded_at_us))
            or not self._catalogue.knows_code(hello.host, digest)
        )
        self._sessions.check_room(hello, known={each.host for each in self._catalogue.hosts()})
        session = Session(hello=hello, loading=hello.heartbeat.loading or wanted)
        # Before the engine knows it: callers that see that it is loading can wait for it.
        self._sessions.add(session)
        try:
            verdicts = await self._engine.attach(hello, session)
        except BaseException:
            session.leave()
            self._sessions.remove(session)
            raise
        reader = asyncio.create_task(self._read(requests, session, caller), name=f"host {hello.host} reader")
        reader.add_done_callback(lambda _: self._leave(session, caller))
        session.reader = reader
        _LOG.info(
            "host %s attached: instance %s, pid %s on %s in %s, %s attempts held",
            hello.host, hello.incarnation, hello.pid, hello.machine, hello.project[:_LOGGED], len(hello.inventory),
            extra={"host": hello.host},
        )  # fmt: skip
        self._tell("Attach", hello, caller)
        try:
            welcome = self._welcome(verdicts, protocol=protocol, manifest_wanted=wanted)
            yield gateway.AttachResponse(welcome=welcome)
            async for message in session.messages():
                yield message
            await reader  # it ended by itself: raise its error
        finally:
            await _cancelled(reader)

    def _leave(self, session: Session, caller: Caller) -> None:
        """Let go of a session that is over. Its call may go on, or have been cancelled more than once."""
        hello = session.hello
        session.leave()
        self._sessions.remove(session)
        self._engine.detach(hello.key, session)
        _LOG.info("host %s detached: instance %s", hello.host, hello.incarnation, extra={"host": hello.host})
        self._tell("Detach", hello, caller)

    def _tell(self, action: Literal["Attach", "Detach"], hello: InstanceHello, caller: Caller) -> None:
        """Write the begin or the end of a session to the audit."""
        note = f"instance {hello.incarnation}, pid {hello.pid} on {hello.machine}"
        self._audit.of_session(action, caller, target=f"host:{hello.host}", note=note)

    async def _is_news(self, hello: InstanceHello, digest: str, loaded_at_us: int) -> bool:
        return not await self._catalogue.knows_manifest(
            hello.host, digest, loaded_at_us=loaded_at_us, served=self._sessions.digests_beside(hello)
        )

    async def _read_hello(
        self, requests: AsyncIterator[gateway.AttachRequest], caller: Caller
    ) -> tuple[InstanceHello, int]:
        """Return the instance's introduction, and the highest protocol version that both sides speak."""
        if self._sessions.stopped:
            raise KernelStopping
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                first = await anext(requests)
        except TimeoutError:
            raise BadRequest(f"no hello within {_HELLO_SECONDS:g} seconds; send it first", field="hello") from None
        except StopAsyncIteration:
            raise BadRequest("the stream ended before a hello; send it first", field="hello") from None
        if first.WhichOneof("message") != "hello":
            raise BadRequest("the first message is not a hello; send it first", field="hello")
        hello = read_hello(first.hello, principal=str(caller.principal))
        # What another kernel, or a program that posed as one, called itself proves nothing.
        of_this_kernel = first.hello.kernel_id == self._info.store_id
        if of_this_kernel and first.hello.epoch_seen > self._info.epoch:
            raise StaleSession(
                f"this kernel's epoch is {self._info.epoch} and the host has seen {first.hello.epoch_seen}: "
                "a newer kernel has taken over, connect to that one"
            )
        return hello, min(PROTOCOL_MAX, first.hello.protocol_max)

    def _welcome(self, verdicts: Sequence[Verdict], *, protocol: int, manifest_wanted: bool) -> gateway.Welcome:
        settings = self._parts.settings
        # Hosts keep what the operator has named, and no name that the kernel has guessed.
        named = settings.advertised_hosts or any(map(is_tcp, settings.advertised))
        return gateway.Welcome(
            protocol=protocol,
            epoch=self._info.epoch,
            kernel_id=self._info.store_id,  # random, and of this history: epochs count within it only
            heartbeat_interval_ms=_milliseconds(settings.kernel.heartbeat_seconds),
            lease_ms=_milliseconds(settings.kernel.lease_seconds),
            grace_ms=_milliseconds(settings.kernel.lost_after_seconds),
            manifest_wanted=manifest_wanted,
            verdicts=seal(verdicts) if verdicts else b"",
            addresses=self._parts.reached().hosts if named else (),
        )

    async def _read(self, requests: AsyncIterator[gateway.AttachRequest], session: Session, caller: Caller) -> None:
        """Process the host's messages until its side ends."""
        async for request in requests:
            self._take(request, session, caller)
            del request  # a large one takes 15 MiB, and the next may never come

    def _take(self, request: gateway.AttachRequest, session: Session, caller: Caller) -> None:
        kind = request.WhichOneof("message")
        if kind == "heartbeat":
            self._quotas.call(caller.principal, "Heartbeat", 1 + len(request.heartbeat.workers) / _WORKERS_OF_HEARTBEAT)
            info = read_heartbeat(request.heartbeat)
            self._engine.heartbeat(session.hello.key, info)
            session.acknowledge_heartbeat(request.heartbeat.sent_at_us)
            if session.loading and not info.loading and not info.generation:
                self._sessions.loaded(session.hello.key)  # its first load has failed
        elif kind == "load_state":
            self._quotas.call(caller.principal, "LoadState")
            load = structs.replace(read_load(request.load_state), by=session.reload_by)
            self._engine.loaded(session.hello.key, load)
        elif kind in ("reload_result", "check_result", "inspect_result"):
            session.take_answer(getattr(request, kind))
        elif kind == "hello":
            raise BadRequest("a second hello on one session; open a new session", field="hello")
        # Any other message belongs to a newer protocol: a host that speaks ours needs no answer to it.

    async def stream_reports(
        self, request: gateway.StreamReportsRequest, caller: Caller
    ) -> gateway.StreamReportsResponse:
        """Record events of many attempts. The answer is a message of the session, with the orders that follow.

        :raises BadRequest: if the report as a whole cannot be read
        :raises StaleSession: if the instance has no session, or the report is from another epoch than this kernel's
        """
        session = self._session_of(request.host, request.incarnation, caller)
        if request.epoch != self._info.epoch:
            raise StaleSession(
                f"the report is of epoch {request.epoch}, this kernel's is {self._info.epoch}; attach again"
            )
        sealed = request.attempts
        try:
            reports = open_reports(sealed)
        except LetterError as error:
            raise BadRequest(str(error), field="attempts") from None
        self._quotas.call(caller.principal, "StreamReports", len(reports) / _TOLD_OF_REPORT)
        answer = partial(session.answer, request.number)
        await self._engine.report(session.hello.key, reports, size=len(sealed), answer=answer)
        return gateway.StreamReportsResponse()

    async def introduce_manifest(
        self, request: gateway.IntroduceManifestRequest, caller: Caller
    ) -> gateway.IntroduceManifestResponse:
        """Introduce the manifest of a generation of an attached instance.

        :raises StaleSession: if the caller has attached no such instance
        """
        check_incarnation(request.incarnation)
        hello = self._session_of(request.host, request.incarnation, caller).hello
        audit_about(f"host:{hello.host}")
        turn = self._introducing.setdefault(hello.host, asyncio.Lock())
        await turn.acquire()
        introducing = asyncio.ensure_future(self._introduce(request, hello, caller))

        def introduced(task: asyncio.Future[gateway.IntroduceManifestResponse]) -> None:
            turn.release()
            if not task.cancelled():
                task.exception()  # nobody else may ask for it: the caller may have left

        introducing.add_done_callback(introduced)
        return await asyncio.shield(introducing)

    def _session_of(self, host: str, incarnation: str, caller: Caller) -> Session:
        """Return the session of an instance that the caller has attached.

        :param host: as the caller says; a name that it has proved counts instead
        :raises StaleSession: if it has attached none such
        """
        session = self._sessions.of_instance(_proved_name(caller) or host, incarnation)
        if session is None or session.hello.principal != str(caller.principal):
            raise StaleSession(f"instance {incarnation[:80]!r} is not attached; attach first")
        return session

    async def _introduce(
        self, request: gateway.IntroduceManifestRequest, hello: InstanceHello, caller: Caller
    ) -> gateway.IntroduceManifestResponse:
        """Introduce a manifest; one of each host at a time. It counts if the call was given up, but not the session.

        Instances that start together all bring the same one: what the first has introduced is not opened again. A large
        manifest keeps a thread busy for a while, so no host can use up all threads; and a host that lost patience while
        a kernel loads a hundred of them finds its own known when it calls again.
        """
        asked, loaded_at_us = request.explicit, request.loaded_at_us
        disabled = self._catalogue.disabled_in(hello.host, request.digest, asked=asked, loaded_at_us=loaded_at_us)
        current = disabled is not None
        if disabled is None:
            try:
                manifest, size = await asyncio.to_thread(
                    open_manifest, request.manifest_json_zlib, digest=request.digest, host=hello.host
                )
                self._quotas.call(caller.principal, "IntroduceManifest", size / _BYTES_OF_MANIFEST)
                current, disabled = await self._catalogue.introduce(
                    hello.host,
                    digest=request.digest,
                    manifest=manifest,
                    explicit=asked or await self._is_news(hello, request.digest, loaded_at_us),
                    asked=asked,
                    leads=not hello.for_attempt,
                    size=size,
                    wanted=lambda: self._sessions.of_instance(*hello.key) is not None,
                )
            except BadRequest:
                self._sessions.loaded(hello.key)  # it will not send it again
                raise
        self._sessions.loaded(hello.key, digest=request.digest)
        self._engine.look_again(hello.host)
        claimed = self._catalogue.foreign_ids(hello.host) if current else ()
        if claimed:
            self._audit.of_session(
                "ClaimJobs", caller, target=named("job:", claimed), outcome="JOB_DISABLED", note="of another host"
            )
        return gateway.IntroduceManifestResponse(current=current, disabled_job_ids=disabled)


def _proved_name(caller: Caller) -> str:
    """Return the host name that a caller has proved; empty for the owner, whose hosts are trusted with their names.

    The guard lets nobody else call the hosts' service.
    """
    return "" if caller.principal.kind is PrincipalKind.OWNER else caller.principal.name


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), _MOST_MS)


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for it; ignore its result or error."""
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception) and not isinstance(outcome, KernelError):
        _LOG.error("the reader of a host session failed", exc_info=outcome)
