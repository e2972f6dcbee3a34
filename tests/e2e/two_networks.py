"""Two machines as far as TCP can tell: two network namespaces with a cable between, or two loopback addresses.

A cable says what the kernel is told to listen at, and which commands run another where the kernel is, and where the host
is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tcp_proxy import TcpProxy

from machine_parts import need

__all__ = ["Cable", "Loopback", "Namespaces"]


class Loopback:
    """A proxy between two ports of 127.0.0.1: the host dials one, the kernel's door for hosts is at the other."""

    listen = "tls://127.0.0.1:0"
    kernel_side = host_side = ()

    def __enter__(self) -> Self:
        """Return the cable; it needs no setup before the kernel listens."""
        self._proxy: TcpProxy | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the proxy."""
        if self._proxy is not None:
            self._proxy.__exit__(kind, error, trace)

    def dial(self, served: Callable[[], str]) -> str:
        """Start the proxy and return its address.

        :param served: returns the address of the kernel's door for hosts as its log has it
        """
        self._proxy = TcpProxy(lambda: served().removeprefix("tls://"), listen="127.0.0.1:0").__enter__()
        return f"tls://{self._proxy.address}"

    def cut(self) -> None:
        """Swallow everything, without a notice to either side."""
        assert self._proxy is not None
        self._proxy.blackhole()

    def heal(self) -> None:
        """Deliver again."""
        assert self._proxy is not None
        self._proxy.heal()


class Namespaces:
    """Two namespaces of the kernel of this machine, with nothing in them but a virtual cable."""

    listen = "tls://10.203.7.1:7433"

    def __init__(self) -> None:
        self._kernel, self._host = (f"nomaflow-{os.getpid()}-{side}" for side in ("kernel", "host"))
        self.kernel_side = ("nsenter", f"--net=/run/netns/{self._kernel}", "--")
        self.host_side = ("nsenter", f"--net=/run/netns/{self._host}", "--")

    def __enter__(self) -> Self:
        """Make them if this machine can."""
        need("ip", "nsenter", "unshare", namespaces=True)
        try:
            self._make()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _make(self) -> None:
        for name in (self._kernel, self._host):
            _ip("netns", "add", name)
        _ip("link", "add", "near", "netns", self._kernel, "type", "veth", "peer", "name", "far", "netns", self._host)
        for name, end, number in ((self._kernel, "near", 1), (self._host, "far", 2)):
            _ip("-n", name, "address", "add", f"10.203.7.{number}/24", "dev", end)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", end, "up")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove them; the cable goes with them."""
        for name in (self._kernel, self._host):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def dial(self, served: Callable[[], str]) -> str:
        """Return the kernel's address as its log has it, which is the same on both sides."""
        return served()

    def cut(self) -> None:
        """Pull the cable out at the host's side."""
        _ip("-n", self._host, "link", "set", "far", "down")

    def heal(self) -> None:
        """Put it back."""
        _ip("-n", self._host, "link", "set", "far", "up")


Cable = Loopback | Namespaces


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
