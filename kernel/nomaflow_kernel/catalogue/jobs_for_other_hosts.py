"""Jobs that aim at another host: what that host's manifest says about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomaflow_kernel.catalogue.served import names_in_manifest
from nomaflow_project.jobs.definitions import JobDefinition
from nomaflow_project.reading.problems import Place, Problem

UNACCEPTED = "job_not_accepted"
NOT_OFFERED = "callable_not_offered"
FOREIGN_IMAGE = "image_of_another_host"


def objection(
    definition: JobDefinition, place: Place, *, own: str, target: str, manifest: Mapping[str, Any] | None
) -> Problem | None:
    """Return why a host does not run a definition of another host's job; None if it does.

    It runs jobs of the hosts that it accepts, with the callables that it offers: not any code that the other names, and
    so not in an image that the other names, which would run as this host.

    :param place: of the job's table
    :param own: the host that brought the job
    :param target: the host that is to run it
    :param manifest: the target's; None if it has introduced none
    """
    if manifest is None or own not in names_in_manifest(manifest, "accept_jobs_from"):
        message = f"no host {target!r} accepts jobs of host {own!r}"  # not every author may learn whether it exists
        fix = (
            f'to run it there: [host] accept_jobs_from = ["{own}"] in the nomaflow.toml of {target!r}, then '
            f"`nomaflow reload {target}`; to run it on its own host, leave out the key 'host'"
        )
        return (place / "host").error(UNACCEPTED, message, fix=fix)
    offered = manifest.get("callables")
    for index, step in enumerate(definition.steps):
        if not step.calls_job and not (isinstance(offered, Mapping) and step.callable in offered):
            message = f"host {target!r} offers no callable {step.callable!r} to jobs of host {own!r}"
            fix = f"name a function of its plugin modules, or one that its own jobs name; then `nomaflow reload {own}`"
            return (place / "steps" / index / "callable").error(NOT_OFFERED, message, fix=fix)
        if step.image and not step.calls_job:
            message = f"host {target!r} runs jobs of host {own!r} in its own image only, and not in {step.image!r}"
            fix = "leave out the key 'image'; an instance of its own is isolation = 'instance'"
            return (place / "steps" / index / "image").error(FOREIGN_IMAGE, message, fix=fix)
    return None
