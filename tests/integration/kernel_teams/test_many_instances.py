"""Many instances of one host that bring the same code: the kernel works for the first of them only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from teams_kernel import PATIENCE, Team, TeamsKernel, job, refusal

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_project.jobs.load import load_manifest
from nomaflow_project.jobs.loaded import CatalogueLoad
from waiting import eventually

INSTANCES = 10


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the host of each manifest that is checked from now on."""
    return watched(monkeypatch, lambda: None)


def watched(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> list[str]:
    """Have something done before each check of a manifest; return the hosts of those."""
    checked: list[str] = []

    def check(manifest: Mapping[str, Any], **more: Any) -> CatalogueLoad:
        checked.append(str(manifest["host"]))
        before()
        return load_manifest(manifest, **more)

    monkeypatch.setattr("nomaflow_kernel.catalogue.service.load_manifest", check)
    return checked


async def _introductions(teams: TeamsKernel) -> int:
    return [event.kind for event in await teams.events()].count("host.manifest")


async def _instances(teams: TeamsKernel) -> list[Team]:
    made = [await teams.team("teamb", incarnation=f"incarnation-{number}") for number in range(INSTANCES)]
    return [await each.attach() for each in made]


async def test_code_that_all_bring_is_checked_once(teams: TeamsKernel, checks: list[str]) -> None:
    """Ten instances introduce one manifest at once: one check, one event, and all serve the catalogue."""
    instances = await _instances(teams)
    jobs = [job(f"b.job{number}") for number in range(50)]
    answers = await asyncio.gather(*(each.introduce(jobs, explicit=False) for each in instances))
    assert all(answer.current for answer in answers)
    assert (checks, await _introductions(teams)) == (["teamb"], 1)
    assert teams.sessions.loading() == []


async def test_a_reload_of_all_is_checked_once(teams: TeamsKernel, checks: list[str]) -> None:
    """A person has all reloaded; once more without an edit is introduced by none who loaded it before."""
    instances = await _instances(teams)
    await instances[0].introduce([job("b.job")], explicit=False)
    for edited in ([job("b.job"), job("b.new")], [job("b.new")]):
        checks.clear()
        answers = await asyncio.gather(*(each.introduce(edited, explicit=True) for each in instances))
        assert all(answer.current for answer in answers)
        assert checks == ["teamb"]
    assert await _introductions(teams) == 3


async def test_a_reload_claims_what_has_become_free(teams: TeamsKernel) -> None:
    """The same manifest, introduced again because a person asked for it, gets the ids of a forgotten host."""
    other = await (await teams.team("teama")).attach()
    await other.introduce([job("b.job")])
    instance = await (await teams.team("teamb")).attach()
    await instance.introduce([job("b.job")], explicit=False)
    await other.leave()
    await teams.catalogue.forget("teama")
    for explicit, refused in ((False, ["b.job"]), (True, [])):
        assert (await instance.introduce([job("b.job")], explicit=explicit)).current
        assert teams.catalogue.foreign_ids("teamb") == refused


async def test_who_comes_while_its_host_is_forgotten_brings_its_jobs_again(teams: TeamsKernel) -> None:
    """It was told that the kernel knows its jobs, and would serve none of them."""
    first = await (await teams.team("teamb")).attach()
    await first.introduce([job("b.job")])
    await first.leave()
    while teams.sessions.hosts():
        await teams.sessions.changed()
    async with teams.catalogue._changing:
        forgetting = asyncio.ensure_future(
            teams.client.ForgetHost(kernel.ForgetHostRequest(host="teamb"), timeout=PATIENCE)
        )
        await eventually(lambda: teams.catalogue._changing._waiters)
        late = await (await teams.team("teamb")).attach(digest=first.digest)
        assert not late.wanted
    assert list((await forgetting).released_job_ids) == ["b.job"]
    assert await late.ended() == "SUPERSEDED"
    again = await (await teams.team("teamb")).attach(digest=first.digest)
    assert again.wanted


async def test_who_lost_patience_finds_its_code_known(teams: TeamsKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check goes on without the caller, who need not have it made again: else a busy kernel would never finish."""
    go_on = threading.Event()
    checks = watched(monkeypatch, lambda: go_on.wait(PATIENCE))
    instance = await (await teams.team("teamb")).attach()
    hasty = asyncio.create_task(instance.introduce([job("b.job")], explicit=False))
    async with asyncio.timeout(PATIENCE):
        while not checks:
            await asyncio.sleep(0.01)
    hasty.cancel()
    await asyncio.wait([hasty])
    again = asyncio.create_task(instance.introduce([job("b.job")], explicit=False))
    go_on.set()
    assert (await again).current
    assert checks == ["teamb"]


async def test_who_has_left_introduces_nothing(teams: TeamsKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that is being checked when its instance goes, or is shut out, does not become the catalogue."""
    go_on = threading.Event()
    checks = watched(monkeypatch, lambda: go_on.wait(PATIENCE))
    instance = await (await teams.team("teamb")).attach()
    introducing = asyncio.create_task(instance.introduce([job("b.job")], explicit=False))
    async with asyncio.timeout(PATIENCE):
        while not checks:
            await asyncio.sleep(0.01)
    await instance.leave()
    async with asyncio.timeout(PATIENCE):
        while teams.sessions.hosts():
            await asyncio.sleep(0.01)
    go_on.set()
    assert await refusal(introducing) == "STALE_EPOCH"
    assert teams.catalogue.job("b.job") is None
