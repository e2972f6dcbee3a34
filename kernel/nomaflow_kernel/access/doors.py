"""Doors: each has its own server and its own proof of who calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nomaflow_kernel.access.principals import OWNER, Principal

__all__ = ["Identify", "Shown", "owners_door"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What a caller shows of itself.

    :param peer: its address, as gRPC writes it
    :param authorization: the metadata of that name; empty for none
    :param certificate: its certificate, PEM, verified at the handshake; empty for none
    """

    peer: str
    authorization: str = ""
    certificate: bytes = b""


Identify = Callable[[Shown], Principal]
"""A door's proof: who calls. ``ANYONE`` if nothing good is shown."""


def owners_door(_shown: Shown) -> Principal:
    """Return the owner: whoever reaches the Unix socket has entered its directory."""
    return OWNER
