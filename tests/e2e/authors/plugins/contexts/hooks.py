"""A plugin of the plugins folder: adds an injection and a setting, and watches."""

from __future__ import annotations

import logging

from nomaflow import hookimpl

_log = logging.getLogger("contexts.hooks")


@hookimpl
def nomaflow_contribute_injections(call):
    return {"greeting": f"hello from {call.ctx.job_id}"}


@hookimpl
def nomaflow_contribute_settings():
    return {"app": {"from_hook": "yes"}}


@hookimpl
def nomaflow_attempt_finished(call, outcome):
    if call.reference == "contexts.looking:added":
        _log.info("observed %s", outcome.state)
