"""The catalogue: who brought which job, what changed, what is gone."""

from __future__ import annotations

import pytest

from nomaflow_kernel.catalogue import served
from nomaflow_kernel.catalogue.registry import Catalogue, CatalogueChange, HostCatalogue
from nomaflow_kernel.catalogue.served import ServedManifest, ServedManifests
from nomaflow_project.jobs.load import load_job_files
from nomaflow_project.jobs.loaded import CatalogueLoad
from nomaflow_project.reading.files import JobFile


def _load(host: str, *job_ids: str, callable: str = "m:f") -> CatalogueLoad:
    jobs = [{"id": job_id, "steps": [{"callable": callable}]} for job_id in job_ids]
    return load_job_files([JobFile(path="jobs.toml", tree={"jobs": jobs})], host=host)


def _introduce(catalogue: Catalogue, host: str, load: CatalogueLoad) -> CatalogueChange:
    return catalogue.take_in(HostCatalogue(host=host, load=load))


def test_an_introduction_says_what_changed() -> None:
    """Added, changed and removed ids; the same again changes nothing."""
    catalogue = Catalogue()
    assert _introduce(catalogue, "a", _load("a", "x", "y")).added == ("x", "y")
    assert not _introduce(catalogue, "a", _load("a", "x", "y"))
    change = _introduce(catalogue, "a", _load("a", "y", "z", callable="m:g"))
    assert (change.added, change.changed, change.removed) == (("z",), ("y",), ("x",))


def test_a_vanished_job_stays_as_removed_and_can_come_back() -> None:
    """A vanished job does not run and is reported only once."""
    catalogue = Catalogue()
    _introduce(catalogue, "a", _load("a", "x"))
    assert _introduce(catalogue, "a", _load("a")).removed == ("x",)
    entry = catalogue.job("x")
    assert entry is not None
    assert entry.removed
    assert not entry.runnable
    assert not _introduce(catalogue, "a", _load("a"))
    assert _introduce(catalogue, "a", _load("a", "x")).changed == ("x",)
    entry = catalogue.job("x")
    assert entry is not None
    assert entry.runnable


def test_a_job_id_belongs_to_the_host_that_first_brought_it() -> None:
    """A foreign id disables that one job, visibly; the rest of the introduction serves."""
    catalogue = Catalogue()
    _introduce(catalogue, "a", _load("a", "x"))
    change = _introduce(catalogue, "b", _load("b", "x", "mine"))
    assert (change.added, change.disabled) == (("mine",), ("x",))
    entry = catalogue.job("x")
    assert entry is not None
    assert entry.host == "a"
    assert entry.runnable
    foreign = [entry for entry in catalogue.jobs() if entry.foreign]
    assert [(entry.job_id, entry.host, entry.runnable) for entry in foreign] == [("x", "b", False)]
    problem = foreign[0].loaded.problems[0]
    assert (problem.code, problem.is_error) == ("id_of_another_host", True)
    assert "'a'" in problem.message
    assert "hosts forget a" in problem.fix


def test_a_removed_job_still_belongs_to_its_host() -> None:
    """A removed job's id is released only when its host is forgotten."""
    catalogue = Catalogue()
    _introduce(catalogue, "a", _load("a", "x"))
    _introduce(catalogue, "a", _load("a"))
    assert _introduce(catalogue, "b", _load("b", "x")).disabled == ("x",)
    [foreign] = [entry for entry in catalogue.jobs() if entry.foreign]
    assert "a has removed its own" in foreign.loaded.problems[0].fix
    assert "forget" not in foreign.loaded.problems[0].fix  # that would free all ids of a host that is well
    _introduce(catalogue, "", _load("", "y"))
    _introduce(catalogue, "", _load(""))
    _introduce(catalogue, "b", _load("b", "y"))
    [foreign] = [entry for entry in catalogue.jobs() if entry.foreign]
    assert "the ids of that file are free once it has no job" in foreign.loaded.problems[0].fix


def test_the_removed_jobs_of_a_host_do_not_grow_without_end() -> None:
    """New ids with each release leave the thousand jobs that went last; the ids stay the host's all the same."""
    catalogue = Catalogue()
    for release in range(5):
        _introduce(catalogue, "a", _load("a", *(f"{release}-{number}" for number in range(400))))
    removed = [entry.job_id for entry in catalogue.jobs() if entry.removed]
    assert len(removed) == 1_000
    assert not [job_id for job_id in removed if job_id.startswith("0-")]
    assert _introduce(catalogue, "b", _load("b", "0-0")).disabled == ("0-0",)
    assert _introduce(catalogue, "a", _load("a", "0-0")).added == ("0-0",)


def test_forgetting_a_host_releases_its_ids() -> None:
    """A job that waited for the id does not take it by itself; its host gets it when it introduces its jobs again."""
    catalogue = Catalogue()
    _introduce(catalogue, "a", _load("a", "x", "y"))
    _introduce(catalogue, "b", _load("b", "x", callable="m:g"))
    change = catalogue.drop("a")
    assert (change.added, change.changed, change.removed) == ((), (), ("x", "y"))
    assert catalogue.job("x") is None
    [waiting] = catalogue.jobs()
    assert (waiting.foreign, waiting.runnable, waiting.owner) == (True, False, "")
    [problem] = waiting.loaded.problems
    assert (problem.code, problem.is_error) == ("id_of_another_host", True)
    assert "'x' is free" in problem.message
    assert "nomaflow reload b" in problem.fix
    assert not catalogue.drop("never seen")
    change = _introduce(catalogue, "b", _load("b", "x", "y", callable="m:g"))
    assert (change.added, change.disabled) == (("x", "y"), ())
    entry = catalogue.job("x")
    assert entry is not None
    assert (entry.host, entry.runnable, entry.loaded.problems) == ("b", True, ())


def test_the_next_owner_is_named_to_those_who_still_wait() -> None:
    """The first of two hosts waiting for an id that is introduced again gets it; the other learns the new owner."""
    catalogue = Catalogue()
    for host in ("a", "b", "c"):
        _introduce(catalogue, host, _load(host, "x"))
    catalogue.drop("a")
    assert [entry.host for entry in catalogue.jobs() if entry.foreign] == ["b", "c"]
    _introduce(catalogue, "c", _load("c", "x"))
    waiting = [entry for entry in catalogue.jobs() if entry.foreign]
    assert [entry.host for entry in waiting] == ["b"]
    assert ["'c'" in problem.message for problem in waiting[0].loaded.problems] == [True]


def test_a_reserved_id_waits_for_its_host() -> None:
    """Whoever comes first gets the ids that are free and not another's: claimed ones stay."""
    catalogue = Catalogue(reserved=lambda job_id: "b" if job_id.startswith("b.") else "")
    catalogue.own(["b.old"], "a")
    change = _introduce(catalogue, "a", _load("a", "b.one", "b.old", "a.one"))
    assert (change.added, change.disabled) == (("b.old", "a.one"), ("b.one",))
    (waiting,) = [entry for entry in catalogue.jobs() if entry.foreign]
    assert (waiting.job_id, waiting.owner) == ("b.one", "b")
    assert "reserved for the host 'b'" in waiting.loaded.problems[0].message
    assert _introduce(catalogue, "b", _load("b", "b.one")).disabled == ()
    _introduce(catalogue, "", _load("", "b.own"))
    own = catalogue.job("b.own")
    assert own is not None
    assert not own.foreign  # the kernel's own file is its owner's


def test_ownership_known_from_earlier_holds() -> None:
    """A host that comes first after a restart does not take another's ids."""
    catalogue = Catalogue()
    catalogue.own(["x"], "a")
    assert _introduce(catalogue, "b", _load("b", "x")).disabled == ("x",)
    assert catalogue.job("x") is None
    assert _introduce(catalogue, "a", _load("a", "x")).added == ("x",)


def test_malformed_jobs_are_in_the_catalogue_and_do_not_run() -> None:
    """Malformed jobs are shown with their problems; they own their id too."""
    catalogue = Catalogue()
    change = _introduce(catalogue, "a", _load("a", "x", callable="bad"))
    assert (change.added, change.disabled) == (("x",), ("x",))
    entry = catalogue.job("x")
    assert entry is not None
    assert not entry.runnable


def test_jobs_without_an_id_in_the_same_place_of_two_projects_are_not_mixed_up() -> None:
    """Each host's owner reads what is wrong in the own file, and not that the job belongs to another host."""
    catalogue, nameless = Catalogue(), JobFile(path="jobs.toml", tree={"jobs": [{"steps": [{"callable": "m:f"}]}]})
    for host in ("a", "b"):
        change = _introduce(catalogue, host, load_job_files([nameless], host=host))
        assert (change.disabled, change.refused) == (("jobs.toml:jobs[0]",), ())
    entries = catalogue.jobs()
    assert [(entry.owner, entry.valid, len({entry.key for entry in entries})) for entry in entries] == [
        ("a", False, 2), ("b", False, 2),
    ]  # fmt: skip
    assert {problem.code for entry in entries for problem in entry.loaded.problems} == {"missing_key"}
    assert catalogue.foreign_ids("b") == []
    _introduce(catalogue, "b", _load("b", "x"))
    catalogue.drop("a")
    assert [entry.job_id for entry in catalogue.jobs()] == ["x"]


def test_the_manifests_that_a_host_has_served_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is served again counts as new: its instances would get no work if it were forgotten."""
    monkeypatch.setattr(served, "_REMEMBERED", 2)
    kept = ServedManifests()
    for digest in "abac":
        kept.keep("team", digest, ServedManifest(definitions=frozenset({("job", digest)}), accepts=frozenset()))
    assert [digest for digest in "abc" if kept.get("team", digest) is not None] == ["a", "c"]
