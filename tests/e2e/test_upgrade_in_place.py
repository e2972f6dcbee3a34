"""The kernel is stopped, the next version started and rolled back, while a hundred steps are in flight."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from team_system import NOTING_STEPS, Ledger, TeamSystem

import nomaflow_api
import nomaflow_kernel
from nomaflow.client import TriggerOrder
from nomaflow.client.values import RunView, Triggered
from nomaflow_kernel.store.migrations import HEAD
from real_system import eventually

pytestmark = pytest.mark.e2e

STEPS = 100
NEXT_VERSION = "99.1.0"
NEXT_REVISION = f"{HEAD[0]}990"

CODE = (
    NOTING_STEPS
    + """
async def waits(*, ledger, ctx, **_):
    note(ledger, "start", key=ctx.attempt_key)
    said = 0
    while not Path(ledger + ".go").exists():
        said += 1
        print(f"line {said}")
        await asyncio.sleep(0.5)
    note(ledger, "end", key=ctx.attempt_key)
    return {"rows_affected": 1, "said": said}

async def after(*, ledger, ctx, **_):
    note(ledger, "after", key=ctx.attempt_key)
    return ctx.prev_rows_affected
"""
)
JOBS = """
[[jobs]]
id = "waits"
overlap = "allow"
steps = [{ name = "one", callable = "work:waits" }, { name = "two", callable = "work:after" }]
"""
MIGRATION = f'''"""More."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "{HEAD}"


def upgrade():
    """Add a column, an index and a table."""
    op.add_column("runs", sa.Column("colour", sa.Text(), nullable=False, server_default=""))
    op.create_index("runs_by_colour", "runs", ["colour", "run_id"])
    op.create_table("colours", sa.Column("name", sa.Text(), primary_key=True))
'''


@pytest.fixture
def system(tmp_path: Path) -> Iterator[TeamSystem]:
    """Make a place for a kernel and a host."""
    found = TeamSystem(root=tmp_path)
    try:
        yield found
    finally:
        found.close()


def next_version(folder: Path) -> Path:
    """Copy the kernel's source, with another version and one more revision of the schema."""
    for package in (nomaflow_kernel, nomaflow_api):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, folder / source.name)
    (folder / "nomaflow_api" / "version.py").write_text(f'VERSION = "{NEXT_VERSION}"\n')
    migrations = folder / "nomaflow_kernel" / "store" / "migrations"
    with (migrations / "__init__.py").open("a") as file:
        file.write(f'\nREVISIONS = (*REVISIONS, "{NEXT_REVISION}")\nHEAD = REVISIONS[-1]\n')
    (migrations / "versions" / f"r{NEXT_REVISION}_more.py").write_text(MIGRATION)
    return folder


def start(system: TeamSystem, source: Path | None = None) -> None:
    """Start a kernel, of this version or of another one's source, and wait until it answers."""
    system.start_kernel(environ={"PYTHONPATH": str(source)} if source else None)


def revision(system: TeamSystem) -> str:
    """Return the schema's revision."""
    with sqlite3.connect(system.kernel_project / ".nomaflow" / "kernel.db") as store:
        (found,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
    store.close()
    return str(found)


def attached_with(system: TeamSystem, count: int) -> bool:
    """Return True if the host is attached and reports that number of running steps."""
    instance = system.instance("team")
    return instance is not None and instance.running == count


def ended(system: TeamSystem, run_id: str) -> RunView | None:
    """Return a run that is over."""
    found = system.run(run_id)
    return found if found.terminal else None


def trigger(system: TeamSystem, ledger: Ledger, count: int) -> list[str]:
    """Trigger runs and return their ids."""
    orders = [TriggerOrder(job_id="waits", params={"ledger": str(ledger.file)}) for _ in range(count)]
    answers = system.api.trigger_many(orders)
    assert all(isinstance(answer, Triggered) for answer in answers), answers
    return [answer.run_id for answer in answers if isinstance(answer, Triggered)]


def test_an_upgrade_and_a_rollback_leave_a_hundred_steps_alone(system: TeamSystem) -> None:
    """Each kernel stops at once, the next one continues with all steps, and none starts a second time."""
    own = version("nomaflow")
    source = next_version(system.root / "next")
    start(system)
    system.project("team", {"plugins/work.py": CODE, "jobs.toml": JOBS})
    system.start_host("team")
    client, ledger = system.api, system.ledger()
    runs = trigger(system, ledger, STEPS)
    ledger.wait_for("start", STEPS)
    assert (client.get_kernel().version, revision(system)) == (own, HEAD)

    for code, told in ((source, NEXT_VERSION), (None, own)):
        epoch = client.get_kernel().epoch
        system.stop("kernel")  # which waits for no step
        start(system, code)
        eventually(partial(attached_with, system, len(runs)))
        kernel = client.get_kernel()
        assert (kernel.version, revision(system)) == (told, NEXT_REVISION)
        assert kernel.epoch > epoch
        assert all(client.get_run(run_id).state == "RUNNING" for run_id in runs)
        runs += trigger(system, ledger, 1)  # each version starts new work, too
        ledger.wait_for("start", len(runs))
    assert "of a later version" in (system.root / "kernel.log").read_text()

    Path(f"{ledger.file}.go").touch()
    for run_id in runs:
        run = eventually(partial(ended, system, run_id))
        assert (run.state, [len(step.attempts) for step in run.steps], run.rows_affected) == ("SUCCEEDED", [1, 1], 2)
        said = run.steps[0].last.extras["said"]
        lines = [line.message for line in client.read_logs(run_id, step="one")]
        assert lines == [f"line {number}" for number in range(1, said + 1)], "no line lost, none twice"
    keys = [entry["key"] for entry in ledger.entries("start")]
    assert sorted(keys) == sorted(f"{run_id}/one/1" for run_id in runs)
    assert len(ledger.entries("end")) == len(ledger.entries("after")) == len(runs)


def test_a_store_of_the_next_major_version_is_refused_untouched(system: TeamSystem) -> None:
    """The kernel ends with 78 and one line, and not a byte of the history has changed."""
    start(system)
    system.stop("kernel")
    file = system.kernel_project / ".nomaflow" / "kernel.db"
    with sqlite3.connect(file) as store:
        store.execute("UPDATE alembic_version SET version_num = '9001'")
    store.close()
    before = file.read_bytes()
    with pytest.raises(AssertionError, match=r"(?s)ended with 78: .*'9001'"):
        start(system)
    assert "Traceback" not in system.log("kernel")
    assert file.read_bytes() == before
