"""Addresses on which a kernel cannot listen: what the system says of them."""

from __future__ import annotations

from pathlib import Path

from nomaflow_kernel.network.listening import why_not_listened


def test_the_system_says_why_a_socket_cannot_be_bound(tmp_path: Path) -> None:
    """The cause is named with the way out, and the question leaves no socket behind."""
    address = f"unix:{tmp_path}/gone/kernel.sock"
    error = why_not_listened(address)
    assert error.exit_code == 1
    way_out = "look at its directory and the free disk space"
    assert str(error) == f"cannot listen on {address!r}: no such file or directory; {way_out}"
    assert "a moment ago" in str(why_not_listened(f"unix:{tmp_path}/kernel.sock"))
    assert not list(tmp_path.iterdir())
