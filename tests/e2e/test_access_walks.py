"""The three walks of docs/access.md, followed to the letter: every command of the page, with what it prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from document_examples import DOCS
from hostile_user import entered_by_all, machine_user, with_python_for_all
from page_walk import Walk, section_of
from real_system import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # dozens of commands, one after the other

PAGE = DOCS / "access.md"


def ports() -> dict[str, str]:
    """Return three free ports in place of those of the page."""
    first = free_ports(3)
    return {str(7433 + number): str(first + number) for number in range(3)}


@contextlib.contextmanager
def walk(folder: Path, **fields: Any) -> Iterator[Walk]:
    """Follow a page; whatever it has started is stopped at the end."""
    walking = Walk(folder=folder, **fields)
    try:
        yield walking
    finally:
        walking.close()


def test_one_owner_has_nothing_to_learn() -> None:
    """One owner on a Unix socket: no port, no token, and an audit."""
    with entered_by_all() as folder, walk(folder) as walking:
        assert walking.follow(section_of(PAGE, "## Walk 1: one owner")) >= 5


def test_three_teams_share_a_machine() -> None:
    """Three teams with three Unix users: each runs its own jobs, and nobody another's."""
    names = ("nomaflow", "reports", "billing", "stock")
    with contextlib.ExitStack() as stack:
        users = {name: stack.enter_context(machine_user(f"w{name[:3]}")).pw_name for name in names}
        folder = stack.enter_context(entered_by_all())
        (folder / "home").mkdir()
        walking = stack.enter_context(walk(folder, users=users, names=ports(), entering=with_python_for_all(folder)))
        assert walking.follow(section_of(PAGE, "## Walk 2: three teams on one machine")) >= 30


def test_hosts_and_people_on_other_machines() -> None:
    """Hosts, people and CI elsewhere; their credentials are renewed, rotated and withdrawn, and the audit has it all."""
    here = {"0.0.0.0": "127.0.0.1", "kernel.example.org": "localhost", **ports()}  # replaced
    with entered_by_all() as folder, walk(folder, names=here) as walking:
        (folder / "srv" / "warehouse").mkdir(parents=True)
        for name in ("dave", "ci"):
            (folder / "home" / name).mkdir(parents=True)
        assert walking.follow(section_of(PAGE, "## Walk 3: hosts on other machines")) >= 20
        assert walking.follow(section_of(PAGE, "## The audit")) >= 5
