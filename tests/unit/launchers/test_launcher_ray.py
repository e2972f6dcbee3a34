"""The part of a launcher for Ray that needs no Ray."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

from nomaflow_launchers.engines.chosen import chosen_engine
from nomaflow_launchers.engines.engine import EngineError
from nomaflow_launchers.planning import Order
from nomaflow_launchers.settings import CannotStart
from nomaflow_project.models.launcher_section import LauncherSection, LauncherShape


def test_ray_that_is_not_installed_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named; nothing is tried again and again."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CannotStart, match=r"'ray' is not installed; pip install 'nomaflow\[ray\]'"):
        chosen_engine(LauncherSection(engine="ray"), project=tmp_path, environ={})


@pytest.mark.parametrize("option", ["--partition=gpu", "special", "special=much"])
def test_an_option_that_is_no_resource_of_ray_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Ray knows amounts, and no options of another engine."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    engine = chosen_engine(LauncherSection(engine="ray"), project=tmp_path, environ={})
    order = Order(store_id="s", host="team", shape=LauncherShape(name="odd", options=(option,)))
    with pytest.raises(EngineError, match="'odd' are no resources of Ray; write NAME=AMOUNT"):
        asyncio.run(engine.start(order))
