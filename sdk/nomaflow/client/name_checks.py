"""The check of the names in filters: a name that does not exist is a mistake, and its empty list says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nomaflow.client.errors import NotFound
from nomaflow_project.reading.problems import did_you_mean

if TYPE_CHECKING:
    from nomaflow.client.kernel_client import KernelClient

__all__ = ["check_names"]


async def check_names(kernel: KernelClient, *, job_id: str, run_ids: Iterable[str], host: str, tag: str) -> None:
    """Refuse names that do not exist, or that the caller may not see; see :meth:`KernelClient.check_names`."""
    if job_id:
        await kernel.get_job(job_id)
    for run_id in filter(None, run_ids):
        await kernel.get_run(run_id)
    if host:
        hosts = {each.name for each in await kernel.list_hosts()}
        if host not in hosts:
            await _require(kernel, "host", host, hosts)
    if tag:
        await _require(kernel, "tag", tag, set())


async def _require(kernel: KernelClient, noun: str, name: str, known: set[str]) -> None:
    """Refuse a name that is neither known nor that of a tag, or a host, of a job that the caller may read."""
    counts = (await kernel.list_jobs_page(include_removed=True, page_size=1, with_counts=True)).counts
    known = known.union(getattr(each, noun) for each in counts) - {""}
    if name in known:
        return
    caller = (await kernel.get_kernel()).caller
    seen = "" if caller is None or caller.may("read") else " that you may see"
    what = f"no job{seen} has the tag" if noun == "tag" else f"no host{seen} has the name"
    fix = did_you_mean(name, known, noun=noun) if known else f"there are no {noun}s{seen}"
    raise NotFound(f"{what} {name!r}", reason=f"{noun.upper()}_NOT_FOUND", fix=fix)
