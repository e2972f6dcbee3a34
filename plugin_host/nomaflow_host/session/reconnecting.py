"""The host's session: connects to the kernel, as often as needed, for the life of the host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from msgspec.structs import replace

from nomaflow.client.backoff import Backoff
from nomaflow.client.channels import handshake_failure
from nomaflow_api.addresses import split_addresses
from nomaflow_api.boot_clock import boot_seconds
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.process.errors import NotJoined, NotNeeded, ProtocolUnsupported, StateUnwritable
from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.conversation import Conversation
from nomaflow_host.session.encoding import PROTOCOL_MAX, PROTOCOL_MIN, hello_message
from nomaflow_host.session.facts import HostIdentity, HostStatus
from nomaflow_host.session.failures import CallFailure, FailureKind, SessionDropped
from nomaflow_host.session.grace import GraceGuard
from nomaflow_host.session.introducing import Introducer
from nomaflow_host.session.kernel_clock import KernelClock
from nomaflow_host.session.link import AttachCall, Link, write
from nomaflow_host.session.renewing import Renewer

if TYPE_CHECKING:
    from nomaflow_host.identity.files import IdentityFile
    from nomaflow_host.process.runner import SupervisedRunner
    from nomaflow_host.supervisor.values import LoadOutcome

_log = logging.getLogger(__name__)

_WELCOME_SECONDS = 10.0
_REFUSED_SECONDS = 10.0
_LONGEST_PAUSE = 8.0  # under 10 with its jitter: a host is back that soon after its kernel

_NEXT_SECONDS = 0.2
_STANDBY_SECONDS = 2.0  # a standby may lead at any time


@dataclass(kw_only=True, eq=False)
class HostSession:
    """Keeps the host attached to the kernel.

    :param identity_file: what the host shows on TCP, read again at each try
    :param tell: called with a text whenever the session begins or is lost
    """

    identity: HostIdentity
    addresses: AddressSource
    identity_file: IdentityFile
    runner: SupervisedRunner
    outbox: Outbox
    boot_clock: Callable[[], float] = boot_seconds
    tell: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        """Begin without a kernel."""
        self.clock = KernelClock(clock=self.boot_clock)
        self.introducer = Introducer(runner=self.runner, identity=self.identity)
        self.renewer = Renewer(file=self.identity_file)
        self._guard = GraceGuard(clock=self.clock, outbox=self.outbox, runner=self.runner)
        self._backoff = Backoff(first=0.5, most=_LONGEST_PAUSE)
        self._conversation: Conversation | None = None
        self._leaders: list[str] = []
        self._turn = 0
        self._round = 1
        self._stood_by = False
        self._address = ""
        self.trouble = ""
        """Reason why the host is not attached; empty if it is, or has not tried yet."""
        self.told_load: LoadOutcome | None = None
        """The newest load of which a kernel knows how it ended."""
        self._leaving = False
        self._watch: asyncio.Task[None] | None = None
        self._shown = ""
        self._epochs: dict[str, int] = {}
        self._kernel_id = ""
        self.attached = asyncio.Event()
        self.given = asyncio.Event()
        """Set once the kernel has given the host an attempt, accepted or refused."""

    async def run(self) -> None:
        """Stay attached until cancelled.

        :raises ProtocolUnsupported: if host and kernel have no protocol in common
        :raises NotNeeded: if the attempt that the host was started for is over, or another's
        :raises NotJoined: if the first kernel that it finds is on TCP, and it has no identity for it
        """
        try:
            while not self._leaving:
                address = await self._next_address()
                pause = await self._try(address)
                if self._watch is None:
                    self._watch = asyncio.create_task(self._guard.run(), name="grace")
                if not self._leaving:
                    await self.addresses.changed(pause)
        finally:
            self._stop_watching()

    def beat_soon(self) -> None:
        """Send a heartbeat now, if attached."""
        if self._conversation is not None:
            self._conversation.beat_soon()

    @property
    def address(self) -> str:
        """Address of the attached kernel; empty while not attached."""
        return self._address if self.attached.is_set() else ""

    @property
    def epoch_seen(self) -> int:
        """The highest epoch seen from the kernel that the host was last attached to; 0 for none."""
        return self._epochs.get(self._kernel_id, 0)

    async def flush(self, seconds: float, *, without_kernel: float) -> bool:
        """Wait until the kernel has acknowledged everything; each time it is found away, the log says so.

        :param without_kernel: seconds without an attached kernel, in a row, after which the wait is over too
        :return: False if it has not done so within *seconds*
        """
        loop = asyncio.get_running_loop()
        now = attached_at = loop.time()
        until, told = now + seconds, False
        while not self.outbox.empty:
            now = loop.time()
            if self.attached.is_set():
                attached_at, told = now, False
            elif not told:
                told = True
                _log.warning(
                    "no kernel: waiting %.0f s for one that accepts the remaining reports; stop again to exit at once",
                    min(without_kernel, until - now),
                )
            if now >= min(until, attached_at + without_kernel):
                return False
            await asyncio.sleep(0.02)
        return True

    async def say_goodbye(self) -> None:
        """End the session on purpose: `run` returns once the kernel has ended it too."""
        self._leaving = True
        if self._conversation is not None:
            await self._conversation.say_goodbye()

    async def _next_address(self) -> str:
        if self._leaders:
            return self._leaders.pop(0)
        known = await self.addresses.wait()
        address = known[self._turn % len(known)]
        self._round = len(known)
        self._turn += 1
        return address

    async def _try(self, address: str) -> float:
        """Hold one session and return the seconds to wait after it."""
        try:
            await self._one_session(address)
        except SessionDropped as dropped:
            self._lost(address, str(dropped))
        except grpc.aio.AioRpcError as error:
            untrusted = handshake_failure(error.details() or "", address=address, shown=self._shown)
            if untrusted is None:
                return self._failed(address, CallFailure.of(error))
            self._lost(address, f"{untrusted.message}; {untrusted.fix}")
        except NotJoined as error:
            if not self._address:  # no session has begun yet
                raise
            self._lost(address, f"{error.problem}; {error.fix}")
        finally:
            self.attached.clear()
            self._conversation = None
            self.clock.forget_session()
            self.outbox.rewind_all()
        return self._pause()

    async def _one_session(self, address: str) -> None:
        status = self.runner.status()
        load = None if status.load is None else self.introducer.verdict(status.load)
        async with Link(address=address, identity_file=self.identity_file) as link:
            self._shown = str(link.identity or "")
            call = link.attach()
            try:
                sent_at = self.boot_clock()
                welcome = await self._welcome(call, replace(status, load=load))
                self._take(welcome, address, sent_at)
                if link.identity is not None:  # on a Unix socket nobody has proved to be the kernel that was joined
                    self._learn(welcome.addresses, at=address)
                refusal_stands = self.told_load is not None and not self.told_load.accepted
                if load is not None and not (load.accepted and refusal_stands):  # which no hello ends
                    self.told_load = load
                self._conversation = Conversation(self, link=link, call=call, welcome=welcome)
                self.attached.set()
                await self._conversation.hold()
                self._leaders = [address]
            finally:
                call.cancel()

    async def _welcome(self, call: AttachCall, status: HostStatus) -> pb.Welcome:
        hello = hello_message(
            identity=self.identity,
            status=status,
            outbox=self.outbox,
            epoch_seen=self.epoch_seen,
            kernel_id=self._kernel_id,
        )
        try:
            async with asyncio.timeout(_WELCOME_SECONDS):
                await write(call, hello)
                first = await call.read()
        except TimeoutError:
            raise SessionDropped(f"no welcome within {_WELCOME_SECONDS:g} seconds") from None
        except asyncio.InvalidStateError:
            first = await call.read()
        if not isinstance(first, pb.AttachResponse) or first.WhichOneof("message") != "welcome":
            raise SessionDropped("the kernel's first message is not a welcome")
        return first.welcome

    def _take(self, welcome: pb.Welcome, address: str, sent_at: float) -> None:
        # Epochs of different kernels say nothing about each other: a false kernel must not make the real one seem
        # outdated.
        seen = self._epochs.get(welcome.kernel_id, 0)
        if welcome.epoch < seen:
            raise SessionDropped(
                f"this kernel is outdated: its epoch is {welcome.epoch}, but epoch {seen} was seen before"
            )
        if not PROTOCOL_MIN <= welcome.protocol <= PROTOCOL_MAX:
            raise self._unsupported(str(welcome.protocol), str(welcome.protocol))
        self._epochs[welcome.kernel_id], self._kernel_id = welcome.epoch, welcome.kernel_id
        self.clock.lease_s = welcome.lease_ms / 1000 or self.clock.lease_s
        self.clock.grace_s = welcome.grace_ms / 1000 or self.clock.grace_s
        self.clock.welcomed(sent_at)
        self._stop_watching()
        self._backoff.reset()
        self._stood_by = False
        self._address, self.trouble = address, ""
        if welcome.manifest_wanted:
            self.introducer.want()
        _log.info("attached to the kernel at %s, epoch %d", address, welcome.epoch)
        self.tell(f"attached to the kernel at {address}, epoch {welcome.epoch}")

    def _learn(self, told: Sequence[str], *, at: str) -> None:
        """Keep the addresses that the kernel tells, for this process and for those after it."""
        known = self.addresses.learn(told, at=at)
        if not known:
            return
        _log.info("from now on the kernel is looked for at %s", ", ".join(known))
        try:
            self.identity_file.keep_addresses(known)
        except (NotJoined, StateUnwritable) as error:
            _log.warning("these addresses are known until this process ends: %s", error)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _failed(self, address: str, failure: CallFailure) -> float:
        """Return the seconds to wait after a failed session."""
        if failure.kind is FailureKind.WRONG_PROTOCOL:
            raise self._unsupported(failure.metadata.get("min", ""), failure.metadata.get("max", ""))
        if failure.kind is FailureKind.NOT_NEEDED:
            raise NotNeeded(failure.text, taken=failure.reason == "ATTEMPT_TAKEN")
        if failure.kind is FailureKind.NOT_LEADER:
            self._leaders = list(split_addresses(failure.metadata.get("leader", "")))
            where = f", at {', '.join(self._leaders)}" if self._leaders else ""
            self._lost(address, f"it is on standby; another kernel is the leader{where}")
            self._stood_by = True
            return self._pause()
        if failure.kind is FailureKind.REFUSED:
            self._lost(address, f"the kernel refuses this host: {self._refusal(failure)}")
            return _REFUSED_SECONDS
        self._lost(address, str(failure))
        return self._pause()

    def _refusal(self, failure: CallFailure) -> str:
        """Return why the kernel refuses a host, with the way out if it has shown its certificate."""
        if not self._shown:
            return failure.text
        why = "" if failure.code is grpc.StatusCode.UNAUTHENTICATED else f"{failure.text}; "
        return (
            f"{why}{self._shown}, may have expired or been revoked, or this is not the kernel's port for hosts: "
            f"`nomaflow token create --host {self.identity.host}` on the kernel's machine makes a string to join again"
        )

    def _pause(self) -> float:
        """Return the seconds to wait before the next try; only a few while some addresses are still untried."""
        if self._leaders or self._turn % self._round:
            return _NEXT_SECONDS
        return min(self._backoff.next(), _STANDBY_SECONDS if self._stood_by else _LONGEST_PAUSE)

    def _lost(self, address: str, why: str) -> None:
        """Log why there is no session: in full the first time, then only if the reason changes."""
        if self._leaving:
            return
        level = logging.DEBUG if self.trouble == why else logging.WARNING
        if self.trouble != why:
            self.tell(f"no session with the kernel at {address}, trying again: {why}")
        self.trouble = why
        _log.log(level, "no session with the kernel at %s, trying again: %s", address, why)

    def _unsupported(self, minimum: str, maximum: str) -> ProtocolUnsupported:
        spoken = f"{PROTOCOL_MIN}" if PROTOCOL_MIN == PROTOCOL_MAX else f"{PROTOCOL_MIN} to {PROTOCOL_MAX}"
        return ProtocolUnsupported(spoken=spoken, minimum=minimum, maximum=maximum, version=self.identity.version)
