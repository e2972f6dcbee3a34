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

    def address(self) -> str:
        """Return the address to ask now.

        :raises KernelUnreachable: where there is none
        """
        if self._hints:
            return self._hints[0]
        known = self._source.addresses()
        if not known:
            raise KernelUnreachable("no address of a kernel is given", fix="name one with --address")
        return known[self._turn % len(known)]

    def tried(self, address: str) -> str:
        """Return, for a person, where no kernel answers: an address alone, or every one that is known."""
        try:
            return ", ".join(dict.fromkeys((*self._source.addresses(), address)))
        except KernelUnreachable:
            return address

    def failed(self, error: ClientError) -> None:
        """Take note that the address did not serve: it is not asked again before the others were."""
        if self._hints:
            self._hints.pop(0)
        else:
            self._turn += 1
        leader = error.metadata.get("leader", "")
        if error.reason == "NOT_LEADER" and leader:
            self._hints = list(split_addresses(leader))
