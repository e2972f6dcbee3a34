"""One pair of kernels for the tests of a module; each finds one that leads, one that stands by, and a host."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from pair_system import Pair


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Start kernel "a", which leads, then "b", then the host, which has "b" first in its list. Kernel "c" is frozen."""
    made = Pair()
    try:
        made.start_kernel("c", "--advertise", "unix:/elsewhere/kernel.sock")
        made.start_kernel("d")
        made.frozen_at = time.time()
        made.send("c", signal.SIGSTOP)
        made.start_kernel("a")
        made.start_kernel("b")
        made.start_host("b", "a")
        yield made
    finally:
        made.close()
