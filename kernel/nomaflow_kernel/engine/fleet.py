"""The host instances the kernel knows, and their free slots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nomaflow_kernel.engine.host_messages import HeartbeatInfo, InstanceHello, InstanceKey, InstanceLink, RefusedLoad
from nomaflow_project.jobs.resources import Resources

_MOST_UNREAD = 64 << 20
"""The most bytes of orders that wait to be read by one instance, or were just read. One may have some MiB of values."""


@dataclass(kw_only=True, slots=True)
class Instance:
    """One process of a host, attached or awaited.

    :param hello: its introduction of itself; only the names are set for an instance that an earlier kernel knew
    :param link: its session, None while it is away
    :param last_heard: monotonic seconds; for an awaited instance, the kernel's start
    :param last_heartbeat_us: the same as wall time
    :param unreachable_since_us: when it had been silent for the lease; None while it is heard
    :param lost_at_us: when the next of its attempts may be declared LOST if it stays silent; None while it is heard
    :param retried_on_lost: how many of its attempts are tried again once they are LOST; 0 while it is heard
    :param clock_offset_us: how far its clock is ahead of the kernel's, by its last heartbeat, or its hello
    :param refused_load: its newest load if that was refused; None if that load serves
    :param attempts: keys of the attempts it holds → whether each uses an exclusive slot
    :param reserved: keys of the attempts that ask for resources → what they ask for
    :param unread: keys of the attempts that it has not reported on → the bytes of the orders that it was sent
    :param used: True once it was given an attempt
    """

    hello: InstanceHello
    last_heard: float = 0.0
    last_heartbeat_us: int = 0
    link: InstanceLink | None = None
    attached_at_us: int = 0
    unreachable_since_us: int | None = None
    lost_at_us: int | None = None
    retried_on_lost: int = 0
    clock_offset_us: int = 0
    heartbeat: HeartbeatInfo = field(default_factory=HeartbeatInfo)
    refused_load: RefusedLoad | None = None
    attempts: dict[str, bool] = field(default_factory=dict)
    exclusive_used: int = 0
    reserved: dict[str, Resources] = field(default_factory=dict)
    unread: dict[str, int] = field(default_factory=dict)
    unread_bytes: int = 0
    used: bool = False

    @property
    def host(self) -> str:
        """The name of its host."""
        return self.hello.host

    @property
    def incarnation(self) -> str:
        """Its own name, within its host."""
        return self.hello.incarnation

    @property
    def key(self) -> InstanceKey:
        """Its key."""
        return self.hello.key

    @property
    def introduced(self) -> bool:
        """True if it has attached since the kernel started."""
        return self.attached_at_us > 0

    @property
    def unreachable(self) -> bool:
        """True once it has been silent for longer than the lease."""
        return self.unreachable_since_us is not None

    @property
    def running(self) -> int:
        """The number of attempts it holds."""
        return len(self.attempts)

    def take(self, told: HeartbeatInfo, now: float, now_us: int) -> None:
        """Note its status, and that it is alive."""
        self.heartbeat = told
        self.clock_offset_us = told.sent_at_us - now_us if told.sent_at_us else 0
        self.heard(now, now_us)

    def heard(self, now: float, now_us: int) -> None:
        """Note that it is alive."""
        self.last_heard, self.last_heartbeat_us = now, now_us
        self.unreachable_since_us = self.lost_at_us = None
        self.retried_on_lost = 0

    @property
    def serves(self) -> bool:
        """True if it accepts new work."""
        return (
            self.link is not None
            and self.heartbeat.generation > 0
            and self.unreachable_since_us is None
            and not self.heartbeat.draining
            and not self.heartbeat.saturated
        )

    @property
    def serves_all(self) -> bool:
        """True if it accepts new work, and was not started for one attempt."""
        return self.serves and not self.hello.for_attempt

    def free(self, *, exclusive: bool) -> int:
        """Return how many more attempts of that kind it accepts; none while it has much to read."""
        if self.behind:
            return 0
        if exclusive:
            return self.hello.max_sync - self.exclusive_used
        return self.hello.max_async - (len(self.attempts) - self.exclusive_used)

    def hold(self, attempt_key: str, *, exclusive: bool, needs: Resources | None) -> None:
        """Count an attempt that is assigned to it, with the resources that it asks for."""
        if attempt_key not in self.attempts:
            self.attempts[attempt_key] = exclusive
            self.exclusive_used += exclusive
            self.used = True
            if needs is not None:
                self.reserved[attempt_key] = needs

    def release(self, attempt_key: str) -> None:
        """Stop counting an attempt; unknown keys are ignored."""
        if self.attempts.pop(attempt_key, False):
            self.exclusive_used -= 1
        self.reserved.pop(attempt_key, None)
        self.read(attempt_key)

    @property
    def behind(self) -> bool:
        """True while it has too much to read: one that never reads would fill the kernel's memory."""
        return self.unread_bytes > _MOST_UNREAD

    def sent(self, attempt_key: str, size: int) -> None:
        """Count an order that it is sent, until it reports on the attempt."""
        self.unread_bytes += size - self.unread.get(attempt_key, 0)
        self.unread[attempt_key] = size

    def read(self, attempt_key: str) -> None:
        """Stop counting an order; unknown keys are ignored."""
        self.unread_bytes -= self.unread.pop(attempt_key, 0)

    def drop_all(self) -> None:
        """Stop counting attempts and orders."""
        self.attempts.clear()
        self.exclusive_used = 0
        self.reserved.clear()
        self.unread.clear()
        self.unread_bytes = 0

    @property
    def state(self) -> str:
        """The name of its HostState."""
        if self.unreachable:
            return "UNREACHABLE"
        if self.link is None:
            return "AWAITED" if self.attempts else "DETACHED"
        if self.heartbeat.draining:
            return "DRAINING"
        return "LOADING" if self.link.loading else "ATTACHED"


class Fleet:
    """All instances, by key and by host.

    :param since: the kernel's start, monotonic seconds
    :param since_us: the same as wall time
    """

    def __init__(self, since: float = 0.0, since_us: int = 0) -> None:
        self._since = (since, since_us)
        self._instances: dict[InstanceKey, Instance] = {}
        self._by_host: dict[str, dict[InstanceKey, Instance]] = {}
        self._own: dict[str, Instance] = {}
        self._left: dict[str, tuple[float, int]] = {}
        self._launched: dict[str, float] = {}

    def __iter__(self) -> Iterator[Instance]:
        return iter(list(self._instances.values()))

    def get(self, key: InstanceKey) -> Instance | None:
        """Return the instance, or None."""
        return self._instances.get(key)

    def add(self, instance: Instance) -> None:
        """Add an instance, or note that it has introduced itself."""
        self._instances[instance.key] = instance
        self._by_host.setdefault(instance.host, {})[instance.key] = instance
        if instance.hello.for_attempt:
            self._own[instance.hello.for_attempt] = instance

    def remove(self, key: InstanceKey, now: float, now_us: int) -> None:
        """Forget an instance that has left."""
        instance = self._instances.pop(key, None)
        if instance is not None:
            self._by_host[instance.host].pop(key, None)
            self._left[instance.host] = (now, now_us)
            if self.own(instance.hello.for_attempt) is instance:
                del self._own[instance.hello.for_attempt]

    def own(self, attempt_key: str) -> Instance | None:
        """Return the instance that was started for an attempt, or None."""
        return self._own.get(attempt_key)

    def unused(self) -> list[Instance]:
        """Return the instances that were started for one attempt and have not been given it."""
        return [instance for instance in self._own.values() if not instance.used]

    def of_host(self, host: str) -> Iterable[Instance]:
        """Return the instances of one host."""
        return self._by_host.get(host, {}).values()

    def has_instance(self, host: str) -> bool:
        """Return whether any instance of the host is attached or awaited."""
        return bool(self._by_host.get(host))

    def absent_since(self, host: str) -> tuple[float, int] | None:
        """Return since when a host has no instance, at the earliest since the kernel's start; None if it has one.

        In monotonic seconds, and as wall time.
        """
        return None if self.has_instance(host) else self._left.get(host, self._since)

    def launched_until(self, host: str) -> float:
        """Return until when a launcher starts instances of a host when attempts wait, in monotonic seconds."""
        return self._launched.get(host, -math.inf)

    def is_launched(self, host: str, now: float) -> bool:
        """Return whether a launcher does so at a monotonic time."""
        return self.launched_until(host) > now

    def launches(self, host: str, until: float) -> None:
        """Note that a launcher does so until then."""
        self._launched[host] = max(until, self.launched_until(host))

    def has_newer_code(self, host: str) -> bool:
        """Return whether an instance of the host reports that the code on disk is newer than the loaded code."""
        return any(instance.link is not None and instance.heartbeat.code_newer for instance in self.of_host(host))

    def refused_load(self, host: str) -> RefusedLoad | None:
        """Return the newest load that an attached instance of the host refused, or None."""
        refused = [each.refused_load for each in self.of_host(host) if each.refused_load and each.link is not None]
        return max(refused, key=lambda load: load.at_us, default=None)

    def held(self, host: str) -> int:
        """Return how many attempts all instances of a host hold."""
        return sum(instance.running for instance in self.of_host(host))
