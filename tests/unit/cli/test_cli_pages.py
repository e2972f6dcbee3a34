"""What people see of hosts, and when ``up`` has started everything."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from nomaflow.cli.pages.tables import hosts_page
from nomaflow.cli.up.reporting import JsonReporter, TextReporter
from nomaflow.cli.up.supervising import Ready
from nomaflow.client.values import CatalogueView, HostView, InstanceView, KernelView


def printed(page: object) -> str:
    """Return what a wide terminal shows."""
    out = io.StringIO()
    Console(file=out, width=200).print(page)
    return out.getvalue()


def host(**fields: object) -> HostView:
    """Return a host of one instance."""
    return HostView(
        name="team", state="ATTACHED", instances=(InstanceView(incarnation="i", state="ATTACHED", **fields),)
    )  # type: ignore[arg-type]  # fields of the view


def test_a_host_that_takes_nothing_new_says_why() -> None:
    """Its spill file is at the cap, or it has no code; one that is well says neither."""
    well = printed(hosts_page([host(generation=1)]))
    assert "takes nothing new" not in well
    assert "takes nothing new: its spill file is at its cap" in printed(
        hosts_page([host(generation=1, saturated=True)])
    )
    assert "takes nothing new: no code is loaded" in printed(hosts_page([host(generation=0)]))


@pytest.mark.parametrize(("leader", "stands_by"), [(7, False), (99, True)])
def test_up_names_its_own_kernel(leader: int, stands_by: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """On a database that several share another kernel may lead: the screen has the own pid, and says who leads."""
    ready = Ready(
        project=Path("/srv/team"),
        address="unix:/srv/k.sock",
        kernel=KernelView(version="1", epoch=3, pid=leader, store="postgresql"),
        kernel_pid=7,
        host=None,
        catalogue=CatalogueView(),
        kernel_seconds=0.5,
        host_seconds=1.0,
    )
    out = io.StringIO()
    TextReporter(console=Console(file=out, width=200)).ready(ready)
    assert "kernel   pid 7 " in out.getvalue()
    assert ("stands by, kernel pid 99 leads" in out.getvalue()) is stands_by
    JsonReporter().ready(ready)
    told = json.loads(capsys.readouterr().out)
    assert (told["kernel_pid"], told["stands_by"], told["kernel"]["pid"]) == (7, stands_by, leader)
