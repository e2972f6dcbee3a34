"""One kernel and one host for all tests of the authoring contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract_stage import Stage, open_stage


@pytest.fixture(scope="session", params=["forked", "spawned"])
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start the authors' project, with workers forked from a template or spawned anew; stop it when its tests are over."""
    yield from open_stage(tmp_path_factory.mktemp("contract"), spawned=request.param == "spawned")
