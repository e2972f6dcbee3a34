"""A kernel whose socket takes connections, and whose process does not answer."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nomaflow.client import KernelClient, KernelUnreachable
from nomaflow.client.silent_kernel import silent_kernel


async def test_who_takes_the_connection_and_says_nothing_is_named(tmp_path: Path) -> None:
    """The system takes connections for a process that hangs: its socket is this test's, which is not stopped."""
    path = str(tmp_path / "k.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        async with KernelClient(f"unix:{path}", connect_seconds=0.3) as client:
            with pytest.raises(KernelUnreachable, match=f"its process {os.getpid()} is stopped, hangs or is") as caught:
                await client.get_kernel()
    assert f"kill {os.getpid()}" in caught.value.fix


def test_a_process_elsewhere_has_no_number() -> None:
    """The same on TCP, whose other end may be another machine; other texts of gRPC are about something else."""
    text = "last error: UNKNOWN: x: connection attempt timed out before receiving SETTINGS frame"
    error = silent_kernel(text, address="tls://kernel:7433")
    assert error is not None
    assert "its process is stopped, hangs or is slow" in error.message
    assert silent_kernel("Connection refused", address="tls://kernel:7433") is None
