"""A backup beside a kernel that runs on another store, or stops as the backup begins."""

from __future__ import annotations

from typing import Any

import pytest

from nomaflow.client.values import KernelView
from nomaflow_cli.commands import history
from nomaflow_cli.errors import CliError
from nomaflow_cli.invocation import Invocation


@pytest.mark.parametrize(
    ("later", "runs"),
    [
        ([1], [["--held"]]),
        ([None], [["--held"], []]),
        ([2, 2], [["--held"], ["--held"]]),
        ([2, None], [["--held"], ["--held"], []]),
    ],
    ids=["the same kernel", "none any more", "another kernel", "another one that stops as well"],
)
def test_a_kernel_that_stops_meanwhile_does_not_make_its_store_another(
    monkeypatch: pytest.MonkeyPatch, later: list[int | None], runs: list[list[str]]
) -> None:
    """The kernel was asked, and its store looked at later: only one that still answers runs on another store."""
    made: list[list[str]] = []

    def back_up(*flags: str) -> dict[str, Any]:
        made.append(list(flags))
        if flags:
            raise CliError("the project's kernel does not run on it", reason="OTHER_STORE")
        return {"path": "/b"}

    def kernel(_: Invocation) -> KernelView | None:
        pid = later.pop(0)
        return None if pid is None else view(pid)

    monkeypatch.setattr(history, "_running_kernel", kernel)
    if runs[-1]:
        with pytest.raises(CliError, match="does not run on it"):
            history._backed_up(back_up, Invocation(), view(1))
    else:
        assert history._backed_up(back_up, Invocation(), view(1)) == {"path": "/b"}
    assert (made, later) == (runs, [])


def view(pid: int) -> KernelView:
    """Return a kernel."""
    return KernelView(version="9", epoch=1, pid=pid, store="sqlite")
