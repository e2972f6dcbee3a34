"""The time that the end of a kernel may take."""

from __future__ import annotations

from nomaflow_cli.up import supervising
from nomaflow_kernel import app


def test_a_kernel_has_given_up_before_it_is_killed() -> None:
    """Whatever hangs, such as a store that another process locks: `up` kills a kernel after the time it promises."""
    assert app._STOP_SECONDS + app._STORE_CLOSE_SECONDS < supervising._KERNEL_STOP_SECONDS == 10
