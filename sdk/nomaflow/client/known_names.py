"""The check of the names in filters: a name that does not exist is a mistake, and its empty list says nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
        hosts = [each.name for each in await kernel.list_hosts()]
        if host not in hosts:
            raise await _unknown(kernel, "host", host, hosts)
    if tag:
        counts = (await kernel.list_jobs_page(include_removed=True, page_size=1, with_counts=True)).counts
        tags = {each.tag for each in counts if each.tag}
        if tag not in tags:
            raise await _unknown(kernel, "tag", tag, tags)


async def _unknown(kernel: KernelClient, noun: str, name: str, known: Collection[str]) -> NotFound:
    caller = (await kernel.get_kernel()).caller
    seen = "" if caller is None or caller.may("read") else " that you may see"
    what = f"no job{seen} has the tag" if noun == "tag" else f"no host{seen} has the name"
    fix = did_you_mean(name, known, noun=noun) if known else f"there are no {noun}s{seen}"
    return NotFound(f"{what} {name!r}", reason=f"{noun.upper()}_NOT_FOUND", fix=fix)
