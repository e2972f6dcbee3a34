"""Which of a kernel's addresses to ask next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.client.address import split_addresses
from nomaflow.client.errors import ClientError, KernelUnreachable

if TYPE_CHECKING:
    from nomaflow.client.address import AddressSource

__all__ = ["Route"]


class Route:
    """Stays with the address that answers; where one does not, goes to the next, or to where a standby sends it.

    :param source: says where kernels are; asked again at every try
    """

    def __init__(self, *, source: AddressSource) -> None:
        self._source = source
        self._turn = 0
        self._hints: list[str] = []
        self._failed = ""

    def address(self) -> str:
        """Return the address to ask now.

        :raises KernelUnreachable: where there is none
        """
        if self._hints:
            return self._hints[0]
        known = self._source.addresses()
        if not known:
            raise KernelUnreachable("no address of a kernel is given", fix="name one with --address")
        if len(known) > 1 and known[self._turn % len(known)] == self._failed:
            self._turn += 1
        return known[self._turn % len(known)]

    def tried(self, address: str) -> str:
        """Return, for a person, where no kernel answers: an address alone, or every one that is known."""
        try:
            return ", ".join(dict.fromkeys((*self._source.addresses(), address)))
        except KernelUnreachable:
            return address

    def failed(self, error: ClientError, address: str) -> bool:
        """Take note that an address did not serve; return whether there is one to ask before any is asked again."""
        try:
            if address != self.address():
                return True  # a call or a stream of before: others have found out already
        except KernelUnreachable:
            return False
        self._failed = address
        if self._hints:
            self._hints.pop(0)
            return bool(self._hints)
        self._turn += 1
        if error.reason == "NOT_LEADER":
            self._hints = list(split_addresses(error.metadata.get("leader", "")))
        return bool(self._hints) or self._turn % len(self._source.addresses()) != 0
