"""The time that the end of a kernel may take."""

from __future__ import annotations

from nomaflow_cli.up import supervising
from nomaflow_kernel import app


def test_a_kernel_has_given_up_before_it_is_killed() -> None:
    """A kernel ends before `up` kills it, whatever hangs, such as a store that another process locks."""
    assert app._STOP_SECONDS + app._STORE_CLOSE_SECONDS < supervising._KERNEL_STOP_SECONDS == 10
