"""Chooses the next of a kernel's addresses to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow.client.address import split_addresses
from nomaflow.client.errors import ClientError, KernelUnreachable

if TYPE_CHECKING:
    from nomaflow.client.address import AddressSource

__all__ = ["Route"]


class Route:
    """Stays with an address that answers; otherwise goes to the next one, or to the one that a standby names.

    :param source: source of the addresses; asked again at every try
    """

    def __init__(self, *, source: AddressSource) -> None:
        self._source = source
        self._turn = 0
        self._hints: list[str] = []
        self._failed = ""

    def address(self) -> str:
        """Return the address to ask now.

        :raises KernelUnreachable: if there is none
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
        """Return, for a person, the addresses at which no kernel answers: *address* alone, or all known ones."""
        try:
            return ", ".join(dict.fromkeys((*self._source.addresses(), address)))
        except KernelUnreachable:
            return address

    def failed(self, error: ClientError, address: str) -> bool:
        """Record that an address did not serve; return True if one is left that was not asked yet."""
        try:
            if address != self.address():
                return True  # an older call or stream: others have already switched
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
