"""Sends the serving manifest to the kernel if the kernel does not know it or a person asked for a reload."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio
from msgspec.structs import replace

from nomaflow.client.backoff import Backoff
from nomaflow_api.bounds import MANIFEST_PACKED_BYTES
from nomaflow_api.event_loop import happens_within
from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.message_codec import encode
from nomaflow_host.session.facts import HostIdentity, Manifest
from nomaflow_host.session.failures import CallFailure, FailureKind
from nomaflow_host.session.link import Link
from nomaflow_host.supervisor.values import LoadOutcome
from nomaflow_project.reading.problems import Place

if TYPE_CHECKING:
    from nomaflow_host.process.runner import SupervisedRunner

_log = logging.getLogger(__name__)

_DEADLINE_SECONDS = 60.0
_ZLIB_LEVEL = 6
_NO_ROOM = "STORE_FULL"


class Introducer:
    """Introduces manifests, across sessions: requests made while the kernel is away are done when it is back."""

    def __init__(self, *, runner: SupervisedRunner, identity: HostIdentity) -> None:
        self._runner = runner
        self._identity = identity
        self._explicit = False
        self._wanted = asyncio.Event()
        self._asked = asyncio.Event()
        self._answered = asyncio.Event()
        self._known = ""
        self._learned = asyncio.Event()
        self._refused: LoadOutcome | None = None
        self._trouble = ""

    def want(self, *, explicit: bool) -> None:
        """Ask for the serving manifest to be introduced.

        :param explicit: True makes it the host's catalogue even if the kernel has seen it before
        """
        self._explicit = self._explicit or explicit
        self._trouble = ""
        self._answered.clear()
        self._asked.set()
        self._wanted.set()

    async def settled(self, seconds: float) -> bool:
        """Wait until all requests are done; return False if that takes longer than *seconds*.

        It returns False at once where the kernel's store has no room: nobody knows when it will have some.
        """
        return await happens_within(self._answered, seconds) and not self._wanted.is_set()

    def verdict(self, load: LoadOutcome) -> LoadOutcome:
        """Return a load, as a refused one if the kernel refused its manifest; the same object until that changes."""
        return self._refused if self._refused is not None and self._refused.at_us == load.at_us else load

    def pending(self, load: LoadOutcome) -> LoadOutcome:
        """Return a load with the problem that the kernel has not accepted its manifest yet."""
        why = f": {self._trouble}" if self._trouble else ""
        message = f"the kernel has not accepted the manifest yet; the host keeps trying{why}"
        return replace(load, problems=(Place("").error("manifest_pending", message), *load.problems))

    def kernel_knows(self, digest: str) -> None:
        """Record the digest of the manifest that the kernel has; empty for none."""
        self._known = digest
        learned, self._learned = self._learned, asyncio.Event()
        learned.set()

    async def introduced(self, seconds: float) -> bool:
        """Wait until the kernel has the serving manifest; return False if that takes longer than *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                while (manifest := self._runner.manifest()) is not None and manifest.digest != self._known:
                    await self._learned.wait()
        except TimeoutError:
            return False
        return True

    async def run(self, link: Link, *, on_verdict: Callable[[], None]) -> None:
        """Introduce requested manifests on one session, until cancelled.

        :param on_verdict: called each time that the kernel has accepted or refused one
        """
        backoff = Backoff(first=0.5, most=10.0)
        while True:
            await self._wanted.wait()
            self._asked.clear()
            manifest, explicit = self._runner.manifest(), self._explicit
            if manifest is not None and not await self._introduce(link, manifest, explicit=explicit):
                await happens_within(self._asked, backoff.next())  # whoever asks meanwhile waits for an answer
                continue
            backoff.reset()
            self.kernel_knows("" if manifest is None else manifest.digest)
            if self._runner.manifest() == manifest and self._explicit == explicit:
                self._explicit = False
                self._wanted.clear()
                self._answered.set()
            on_verdict()

    async def _introduce(self, link: Link, manifest: Manifest, *, explicit: bool) -> bool:
        """Introduce a manifest; return False if it has to be tried again."""
        packed = await asyncio.to_thread(zlib.compress, manifest.body, _ZLIB_LEVEL)
        if len(packed) > MANIFEST_PACKED_BYTES:
            size = f"{len(packed):,} bytes compressed, expected at most {MANIFEST_PACKED_BYTES:,}"
            way_out = "move large values of jobs to files that their steps read, or split the host in two"
            self._give_up(manifest, f"the manifest has {size}; {way_out}")
            return True
        request = encode(
            pb.IntroduceManifestRequest, self._identity, manifest, manifest_json_zlib=packed, explicit=explicit
        )
        try:
            response = await link.introduce(request, timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            failure = CallFailure.of(error)
            if failure.kind is FailureKind.MALFORMED:
                self._give_up(manifest, failure.text)
                return True
            self._trouble = failure.text
            if failure.reason == _NO_ROOM and not self._asked.is_set():
                self._answered.set()
            _log.warning("the kernel did not accept the manifest, trying again: %s", failure)
            return False
        self._refused, self._trouble = None, ""
        _log.info("introduced manifest %s%s", manifest.digest[:19], "" if response.current else " (not current)")
        for job_id in response.disabled_job_ids:
            _log.warning("the kernel disabled job %r of this project; `nomaflow job %s` says why", job_id, job_id)
        return True

    def _give_up(self, manifest: Manifest, why: str) -> None:
        """Record that a manifest will not be accepted however often it is sent."""
        self._trouble = why
        load = self._runner.newest_load
        if load is not None and load.accepted and load.digest == manifest.digest:
            # Its code serves, but the jobs stay as they were.
            problems = (Place("").error("manifest_refused", why), *load.problems)
            self._refused = replace(load, accepted=False, reasons=(why,), problems=problems, output_tail="")
        _log.error("the kernel does not accept the manifest: %s", why)
