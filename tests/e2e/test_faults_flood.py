"""Steps that log far more than can be taken in: memory stays bounded, others are served, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_stage import Caller, Refusal, digest_of_log, file_limit, held_lock, ledger, settled
from log_flood import flood, prepare, spill_of
from project_system import ProjectSystem, open_system

from nomaflow.client import TriggerOrder
from real_system import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectSystem]:
    """A kernel and a host that have done all of it once."""
    for opened in open_system(tmp_path_factory.mktemp("flood"), forks_templates=True):
        prepare(opened)
        yield opened


def test_a_flood_into_a_slow_kernel(system: ProjectSystem) -> None:
    """The host spills, the kernel keeps no lines in memory, other calls are answered, each line is there once."""
    figures = flood(system, megabytes=16)
    assert figures.whole, figures
    assert figures.spilled > 1 << 20, "the kernel was too fast for this test to mean anything"
    assert figures.kernel_growth < 12 << 20, "14 MiB of it are stored"
    assert figures.control_p99 < 10
    eventually(lambda: spill_of(system) == 0)


def test_the_disk_for_what_does_not_fit_is_full(system: ProjectSystem) -> None:
    """The step waits while the kernel cannot store and the host cannot spill; then all lines arrive, in order."""
    caller = Caller(system)
    host = system.parts["host"].pid
    order = TriggerOrder(job_id="flood", op_kwargs={"flood": {"megabytes": 16}})
    with file_limit(host, 256 << 10):
        with system.client() as client:
            run_id = client.trigger(order).run_id
        eventually(lambda: [entry for entry in ledger(system.project / "ledger", "start") if run_id in entry["key"]])
        with held_lock(system):
            eventually(lambda: "workers wait until there is space again" in system.log("host"))
            assert isinstance(caller.trigger("quick"), Refusal)
            assert not [entry for entry in ledger(system.project / "ledger", "end") if run_id in entry["key"]]
            assert spill_of(system) < 1 << 20
        assert settled(system, run_id).state == "SUCCEEDED", "a disk that stays full holds nobody for ever"
    run = system.run(run_id)
    assert digest_of_log(system, run_id) == (run.rows_affected, run.steps[0].last.extras["digest"])
    quick = eventually(lambda: answer if isinstance(answer := caller.trigger("quick"), str) else None)
    assert settled(system, quick).state == "SUCCEEDED"
    caller.close()
