"""Instances that are gone although they hold attempts: where the engine knows for certain, the kernel is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from nomaflow.client import KernelClient
from nomaflow.client.values import HostView
from nomaflow_launchers.engines.engine import JOB_LABEL, Engine

_LOG = logging.getLogger(__name__)
_AWAY = ("AWAITED", "DETACHED", "UNREACHABLE")
_KEPT_SECONDS = 3600.0
_Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """An instance as the kernel has listed it last.

    :param epoch: of the kernel then
    :param away: whether it holds attempts and has no session
    """

    labels: Mapping[str, str]
    epoch: int
    at: float
    away: bool


class Witness:
    """Declares to the kernel the ends of instances that the engine has seen.

    It remembers the instances that it has seen at the kernel: after a restart the kernel awaits those that held
    attempts, and lists only those that have come back.

    :param hosts: the names of the launcher's hosts
    """

    def __init__(
        self, kernel: KernelClient, engine: Engine, hosts: Collection[str], *, clock: Callable[[], float]
    ) -> None:
        self._kernel = kernel
        self._engine = engine
        self._hosts = hosts
        self._clock = clock
        self._seen: dict[_Key, _Seen] = {}

    async def look(self, hosts: Iterable[HostView], *, epoch: int, left: Collection[str]) -> None:
        """Ask the engine about each instance that is away, and tell the kernel what it knows.

        :param epoch: the kernel's
        :param left: the engine's ids of the instances that it lists
        :raises ClientError: if the kernel does not answer
        :raises EngineError: if the engine does not
        """
        now = self._clock()
        listed = {
            (host.name, each.incarnation): _Seen(
                labels=each.has.labels, epoch=epoch, at=now, away=each.state in _AWAY and each.running > 0
            )
            for host in hosts
            for each in host.instances
            if host.name in self._hosts and each.has is not None and JOB_LABEL in each.has.labels
        }
        # One that this same kernel has listed and lists no more is not awaited: it held nothing.
        awaited = {key: one for key, one in self._seen.items() if one.epoch != epoch and now - one.at < _KEPT_SECONDS}
        self._seen = {**awaited, **listed}
        for key, one in list(self._seen.items()):
            engine_id = one.labels[JOB_LABEL]
            # One that is away may be on a machine that is gone, although the engine still lists it.
            if not one.away if key in listed else engine_id in left:
                continue
            evidence = await self._engine.witness(engine_id, one.labels)
            if evidence:
                await self._declare(key, evidence)
                del self._seen[key]

    async def _declare(self, key: _Key, evidence: str) -> None:
        host, incarnation = key
        told = await self._kernel.declare_ended(host, incarnation, evidence=evidence)
        if told.attempts:
            attempts = "1 attempt" if told.attempts == 1 else f"{told.attempts} attempts"
            _LOG.warning("instance %s of host %s has ended with %s: %s", incarnation, host, attempts, evidence)
