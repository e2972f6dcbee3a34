"""Sends the serving manifest to the kernel: after each load, and whenever the kernel asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio
from msgspec.structs import replace

from nomaflow.client.backoff import Backoff
from nomaflow_api.bounds import MANIFEST_PACKED_BYTES
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.message_codec import encode
from nomaflow_host.session.facts import HostIdentity
from nomaflow_host.session.failures import CallFailure, FailureKind
from nomaflow_host.session.link import Link
from nomaflow_host.supervisor.values import LoadOutcome
from nomaflow_project.reading.problems import Place

if TYPE_CHECKING:
    from nomaflow_host.process.runner import SupervisedRunner
    from nomaflow_host.supervisor.serving_generation import ServingGeneration

_log = logging.getLogger(__name__)

_DEADLINE_SECONDS = 60.0
_ZLIB_LEVEL = 6
_NO_ROOM = "STORE_FULL"


class Introducer:
    """Introduces each generation, across sessions: one loaded while the kernel is away when that is back."""

    def __init__(self, *, runner: SupervisedRunner, identity: HostIdentity) -> None:
        self._runner = runner
        self._identity = identity
        self._told: ServingGeneration | None = None
        self._no_room_for: ServingGeneration | None = None
        self._answered = asyncio.Event()
        self._refused: LoadOutcome | None = None
        self._trouble = ""

    def want(self) -> None:
        """Introduce the serving manifest in any case: a kernel asks for it."""
        self._told = None

    async def settled(self, seconds: float) -> bool:
        """Wait until the kernel has accepted or refused the serving manifest; return False if it takes longer.

        It returns False at once where the kernel's store has no room: nobody knows when it will have some.
        """
        try:
            async with asyncio.timeout(seconds):
                while (manifest := self._runner.serving) is not self._told:
                    if manifest is self._no_room_for:
                        return False
                    await self._answered.wait()
        except TimeoutError:
            return False
        return True

    def verdict(self, load: LoadOutcome) -> LoadOutcome:
        """Return a load, as a refused one if the kernel refused its manifest; the same object until that changes."""
        return self._refused if self._refused is not None and self._refused.at_us == load.at_us else load

    def pending(self, load: LoadOutcome) -> LoadOutcome:
        """Return a load with the problem that the kernel has not accepted its manifest yet."""
        why = f": {self._trouble}" if self._trouble else ""
        message = f"the kernel has not accepted the manifest yet; the host keeps trying{why}"
        return replace(load, problems=(Place("").error("manifest_pending", message), *load.problems))

    async def run(self, link: Link, *, on_verdict: Callable[[], None]) -> None:
        """Introduce what the kernel has not been told on one session, until cancelled.

        :param on_verdict: called each time that the kernel has accepted or refused a manifest
        """
        backoff = Backoff(first=0.5, most=10.0)
        while True:
            manifest = await self._runner.another(self._told)
            if settled := await self._introduce(link, manifest):
                self._told, manifest.explicit, self._trouble = manifest, False, ""
                backoff.reset()
                on_verdict()
            answered, self._answered = self._answered, asyncio.Event()
            answered.set()
            if not settled:
                # Whoever loads meanwhile waits for an answer. wait_for of Python 3.11 would lose the session's end.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next()):
                        await self._runner.another(manifest)

    async def _introduce(self, link: Link, manifest: ServingGeneration) -> bool:
        """Introduce a manifest; return False if it has to be tried again."""
        packed = await asyncio.to_thread(zlib.compress, manifest.body, _ZLIB_LEVEL)
        if len(packed) > MANIFEST_PACKED_BYTES:
            size = f"{len(packed):,} bytes compressed, expected at most {MANIFEST_PACKED_BYTES:,}"
            way_out = "move large values of jobs to files that their steps read, or split the host in two"
            self._give_up(manifest, f"the manifest has {size}; {way_out}")
            return True
        request = encode(pb.IntroduceManifestRequest, self._identity, manifest, manifest_json_zlib=packed)
        try:
            response = await link.introduce(request, timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            failure = CallFailure.of(error)
            if failure.kind is FailureKind.MALFORMED:
                self._give_up(manifest, failure.text)
                return True
            self._trouble = failure.text
            if failure.reason == _NO_ROOM:
                self._no_room_for = manifest
            _log.warning("the kernel did not accept the manifest, trying again: %s", failure)
            return False
        self._refused = self._no_room_for = None
        _log.info("introduced manifest %s%s", manifest.digest[:19], "" if response.current else " (not current)")
        for job_id in response.disabled_job_ids:
            _log.warning("the kernel disabled job %r of this project; `nomaflow job %s` says why", job_id, job_id)
        return True

    def _give_up(self, manifest: ServingGeneration, why: str) -> None:
        """Record that a manifest will not be accepted however often it is sent."""
        load = self._runner.newest_load
        if load is not None and load.accepted and load.digest == manifest.digest:
            # Its code serves, but the jobs stay as they were.
            problems = (Place("").error("manifest_refused", why), *load.problems)
            self._refused = replace(load, accepted=False, reasons=(why,), problems=problems, output_tail="")
        _log.error("the kernel does not accept the manifest: %s", why)
