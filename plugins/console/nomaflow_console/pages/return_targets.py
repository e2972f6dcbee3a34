"""Addresses that an action leads to when it is done."""

from __future__ import annotations

from collections.abc import Mapping


def target_of(sent: Mapping[str, str], otherwise: str) -> str:
    """Return the address of this console that a form names as ``next``, unless it leads elsewhere."""
    target = sent.get("next", "")
    fits = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if fits else otherwise
