"""Files and folders that a host may no longer read: they decide nothing, and its jobs stay on the schedule."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from team_system import TeamSystem

from hostile_user import entered_by_all, machine_user, with_python_for_all
from machine_parts import need
from real_system import eventually

pytestmark = pytest.mark.e2e

JOB = '[[jobs]]\nid = "{id}"\nschedule = "0 2 * * *"\nsteps = [{{ callable = "work:work" }}]\n'
FILES = {
    "nomaflow.toml": '[host]\nname = "team"\n',
    "jobs.toml": JOB.format(id="a"),
    "plugins/work.py": "def work(**_):\n    return 1\n",
    "plugins/x/jobs.toml": JOB.format(id="b"),
}


@pytest.fixture(scope="module")
def system() -> Iterator[TeamSystem]:
    """A kernel, and a host of a user without rights: root may read whatever its mode is."""
    need("setpriv")
    with machine_user("nfmodes") as owner, entered_by_all() as folder:
        ids = ("--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups")
        made = TeamSystem(root=folder, kernel_side=(*with_python_for_all(folder), "setpriv", *ids))
        made.project("team", FILES)
        for path in (made.kernel_project, *(folder / "team").rglob("*"), folder / "team"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        try:
            made.start_kernel()
            made.start_host("team", side=made.kernel_side)
            eventually(lambda: _states(made) == {"a": (True, False), "b": (True, False)})
            yield made
        finally:
            made.close()


def _states(system: TeamSystem) -> dict[str, tuple[bool, bool]]:
    """Return of each job whether it is valid, and whether it counts as removed."""
    return {job.job_id: (job.valid, job.removed) for job in system.api.list_jobs(include_removed=True).jobs}


@pytest.mark.parametrize("place", ["jobs.toml", "plugins/x/jobs.toml", "plugins/x", "plugins", "nomaflow.toml"])
def test_what_a_host_may_no_longer_read_removes_no_job(system: TeamSystem, place: str) -> None:
    """The load is refused and names the place; by force it serves, and the jobs still stay."""
    path = system.root / "team" / place
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        (refused,) = system.api.reload_host("team", force=False)
        assert not refused.accepted
        told = f"{refused.message} {[(each.file, each.message) for each in refused.problems]}"
        assert place in told
        assert "permission denied" in told.lower()
        assert _states(system) == {"a": (True, False), "b": (True, False)}
        system.api.reload_host("team", force=True)
        assert {job_id: removed for job_id, (_, removed) in _states(system).items()} == {"a": False, "b": False}
    finally:
        path.chmod(mode)
    (accepted,) = system.api.reload_host("team", force=False)
    assert accepted.accepted
    assert _states(system) == {"a": (True, False), "b": (True, False)}
