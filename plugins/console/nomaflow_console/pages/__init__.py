"""The pages, one file each, with their addresses and their live parts."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from starlette.routing import Route

from nomaflow_console.live import LiveView
from nomaflow_console.pages import (
    activity,
    bulk,
    cancel,
    host,
    hosts,
    job,
    jobs,
    kernel,
    login,
    mute,
    pause,
    preferences,
    replay_form,
    run,
    run_form,
    run_log,
    runs,
    schedule,
    search,
)

__all__ = ["ALL_ROUTES", "LIVE_VIEWS"]

_MODULES: tuple[ModuleType, ...] = (
    login, jobs, run_form, pause, mute, job, bulk, runs, replay_form, cancel, run_log, run, schedule, hosts, host,
    activity, kernel, search, preferences,
)  # fmt: skip

ALL_ROUTES: list[Route] = [route for module in _MODULES for route in module.ROUTES]
LIVE_VIEWS: Mapping[str, LiveView] = {
    name: view for module in _MODULES for name, view in getattr(module, "LIVE", {}).items()
}
"""The live parts of all pages, by the name that ``/live?view=`` gives."""
