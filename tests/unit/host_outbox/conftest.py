"""An outbox on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outbox_driver import Clock

from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def factory(**caps: int) -> Outbox:
        store = SpillStore(directory=tmp_path / "spill", clock=clock, **caps)
        made.append(Outbox(store=store, clock=clock))
        return made[-1]

    yield factory
    for outbox in made:
        outbox.close()
        assert outbox.spilled_bytes == 0
    assert not list((tmp_path / "spill").glob("*"))
