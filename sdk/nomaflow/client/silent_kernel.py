"""Explanation of a kernel that takes a connection and does not answer: its process is stopped, or hangs."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from nomaflow.client.errors import KernelUnreachable
from nomaflow_api.addresses import is_tcp

_NO_GREETING = "before receiving SETTINGS frame"
"""gRPC's own words for a connection that the system has taken, and the process has not."""
_CREDENTIALS = struct.Struct("3i")
_PATIENCE_SECONDS = 1.0


def silent_kernel(details: str, *, address: str) -> KernelUnreachable | None:
    """Return the error for gRPC's text about a connection that nobody answers; None if it is about something else."""
    if _NO_GREETING not in details:
        return None
    process = 0 if is_tcp(address) else _listener(address.partition(":")[2])
    who = f"its process {process}" if process else "its process"
    if process and is_stopped(process):
        message = f"the kernel at {address} is there and does not answer: {who} is stopped (SIGSTOP)"
        return KernelUnreachable(message, fix=f"let it go on: kill -CONT {process}")
    message = f"what listens at {address} takes the connection and does not answer: {who} is stopped, hangs or is slow"
    ends = f"kill {process}" if process else "end it"
    return KernelUnreachable(message, fix=f"try again, and look at its log; if it stays so: {ends}, and start it again")


def is_stopped(process: int) -> bool:
    """Return whether a process of this machine has been stopped by a signal, and could go on."""
    try:
        status = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[0] in (b"T", b"t")


def _listener(path: str) -> int:
    """Return the process that listens on a Unix socket; 0 if that cannot be told."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE_SECONDS)
        try:
            probe.connect(path)
            found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0
    return int(_CREDENTIALS.unpack(found)[0])
