"""Messages to the service manager that started the process: systemd's notification protocol, by the standard library.

The protocol is that of ``sd_notify(3)`` and ``sd_watchdog_enabled(3)``: datagrams of ``NAME=value`` lines, sent to the
Unix socket that ``NOTIFY_SOCKET`` names. If it names none, nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

_LOG = logging.getLogger(__name__)
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_SEND_SECONDS = 1.0
_LONGEST_LINE = 500


class ServiceManager:
    """The service manager of this process, or none.

    :param address: address of its socket: a path, or ``@`` and an abstract name; empty for none
    :param watchdog_seconds: silence after which it considers this process hung; None if it does not watch
    """

    def __init__(self, *, address: str = "", watchdog_seconds: float | None = None) -> None:
        self._address = _socket_address(address)
        self._every = watchdog_seconds / 2 if watchdog_seconds and self._address else None
        self._ticking: asyncio.TimerHandle | None = None
        self._lost = False

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> ServiceManager:
        """Return the service manager in the environment, and remove its variables: they are not for child processes."""
        address, usec, pid = (environ.pop(name, "") for name in _VARIABLES)
        watches = usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        return cls(address=address, watchdog_seconds=int(usec) / 1_000_000 if watches else None)

    def ready(self, state: str) -> None:
        """Report that the start, or a reload, is over. The first call also starts feeding the watchdog.

        :param state: the current activity of the process, in words
        """
        self._send({"READY": "1", "STATUS": state})
        if self._every is not None and self._ticking is None:
            self._tick(asyncio.get_running_loop(), self._every)

    def state(self, words: str) -> None:
        """Report the current activity of the process."""
        self._send({"STATUS": words})

    def reloading(self) -> None:
        """Report that a reload begins; :meth:`ready` reports its end."""
        now_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send({"RELOADING": "1", "MONOTONIC_USEC": str(now_usec), "STATUS": "reloading"})

    def stopping(self, state: str, *, within_seconds: float | None = None) -> None:
        """Report that the process is ending.

        :param within_seconds: time that this may take; it extends a shorter limit of the manager
        """
        told = {"STOPPING": "1", "STATUS": state}
        if within_seconds is not None:
            told["EXTEND_TIMEOUT_USEC"] = str(round(within_seconds * 1_000_000))
        self._send(told)

    def _tick(self, loop: asyncio.AbstractEventLoop, every: float) -> None:
        """Feed the watchdog from the event loop itself, so that a blocked loop is noticed."""
        self._send({"WATCHDOG": "1"})
        self._ticking = loop.call_later(every, self._tick, loop, every)

    def _send(self, told: Mapping[str, str]) -> None:
        if not self._address:
            return
        lines = "\n".join(f"{name}={_one_line(value)}" for name, value in told.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_SEND_SECONDS)
                sender.sendto(lines.encode("utf-8", "replace"), self._address)
        except OSError as error:
            # The manager is away, or reads nothing: no reason to do one's own work worse.
            level = logging.DEBUG if self._lost else logging.WARNING
            _LOG.log(level, "the service manager cannot be told %s: %s", " ".join(told), error)
            self._lost = True
        else:
            self._lost = False


def _socket_address(address: str) -> str:
    if not address or address.startswith("/"):
        return address
    if address.startswith("@"):
        return "\0" + address[1:]
    _LOG.warning("NOTIFY_SOCKET is %r, neither a path nor an abstract name: nobody is told", address)
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_LINE]
