"""A kernel and a host of each kind, for all tests of the authoring contract."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from contract_stage import Stage, open_authors


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], Stage]]:
    """Give the authors' project with spawned or with forked workers; each is started once, and stopped at the end."""
    with ExitStack() as stack:

        @functools.cache
        def stage_of(spawned: bool) -> Stage:
            return stack.enter_context(open_authors(tmp_path_factory.mktemp("contract"), spawned=spawned))

        yield stage_of


@pytest.fixture(scope="session", params=["forked", "spawned"])
def stage(request: pytest.FixtureRequest, stages: Callable[[bool], Stage]) -> Stage:
    """Give the authors' project, with workers forked from a template, and with spawned ones."""
    return stages(request.param == "spawned")
