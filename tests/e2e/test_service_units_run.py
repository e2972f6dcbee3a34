"""The installed units under a real systemd: started, restarted, reloaded, watched and drained."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from systemd_machine import SystemdMachine, open_machine
from team_system import NOTING_STEPS, Ledger

from nomaflow.client import SyncKernelClient, TriggerOrder
from processes import is_alive, pids_below
from real_system import eventually

pytestmark = pytest.mark.e2e

KERNEL, HOST = "nomaflow-kernel.service", "nomaflow-host@team.service"
ODD_NAME = 'it\'s a "team" of 100%n ${HOME}'
"""Of the project's directory: a quote, blanks, and what systemd would read as its own."""
FILES = {
    "plugins/work.py": NOTING_STEPS
    + """
async def waits(*, ledger, **_):
    note(ledger, "waits")
    while not Path(ledger + ".go").exists():
        await asyncio.sleep(0.01)
    return 1

def waits_alone(*, ledger, **_):
    note(ledger, "waits_alone")
    while not Path(ledger + ".go").exists():
        time.sleep(0.01)
    return 1
""",
    "jobs.toml": "".join(
        f'[[jobs]]\nid = "{name}"\nsteps = [{{ callable = "work:{name}" }}]\n' for name in ("waits", "waits_alone")
    ),
    "nomaflow.toml": '[host]\nname = "team"\ndrain_seconds = 60\n',
}


class Stage:
    """One machine, and the project that it runs."""

    def __init__(self, machine: SystemdMachine, project: Path) -> None:
        self.machine = machine
        self.project = project
        self.client = SyncKernelClient(machine.address(project))
        self._number = 0

    def start_steps(self) -> tuple[Ledger, list[str], list[int]]:
        """Start both jobs; return their ledger, their runs and the workers that run them."""
        self._number += 1
        ledger = Ledger(file=self.project.parent / f"ledger-{self._number}")
        runs = [
            self.client.trigger(TriggerOrder(job_id=job, params={"ledger": str(ledger.file)})).run_id
            for job in ("waits", "waits_alone")
        ]
        ledger.wait_for("waits")
        ledger.wait_for("waits_alone")
        eventually(lambda: all(self.workers(runs)))  # the kernel hears of it a little later
        return ledger, runs, self.workers(runs)

    def workers(self, runs: list[str]) -> list[int]:
        """Return the workers of the runs' steps, in the numbers of the machine; 0 for one not known yet."""
        return [one.worker_pid for run in runs for one in self.client.get_run(run).steps[0].attempts]

    def let_go(self, ledger: Ledger, runs: list[str]) -> None:
        """Let the steps end, and check that each ran once."""
        Path(f"{ledger.file}.go").touch()
        for run in runs:
            ended = self.client.wait(run)
            assert (ended.state, len(ended.steps[0].attempts)) == ("SUCCEEDED", 1)
        assert len(ledger.entries()) == 2

    def says(self, unit: str, text: str) -> None:
        """Wait until a unit's process says something of itself."""
        eventually(lambda: text in self.machine.property(unit, "StatusText"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Install a project on a machine and start it; nothing of it may be left."""
    log = tmp_path_factory.mktemp("machine") / "console.log"
    with tempfile.TemporaryDirectory(prefix="nomaflow-test-", dir=Path.home()) as folder, open_machine(log) as machine:
        project = Path(folder) / ODD_NAME
        for name, text in FILES.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)
        machine.nomaflow("service", "install", str(project))
        # What is tested may be installed in a temporary directory, which services do not share.
        machine.drop_in(KERNEL, "PrivateTmp=no", "WatchdogSec=2", "TimeoutStopSec=3", "RestartSec=100ms")
        machine.drop_in(HOST, "PrivateTmp=no", "TimeoutStopSec=2", "RestartSec=100ms")
        machine.run("systemctl", "start", KERNEL, HOST)
        made = Stage(machine, project)
        with closing(made.client):
            made.says(HOST, "attached to the kernel")
            yield made


def test_a_restart_of_the_kernel_leaves_the_same_workers(stage: Stage) -> None:
    """A restart of the kernel's unit affects no step: the same processes continue and their results count."""
    ledger, runs, before = stage.start_steps()
    old = stage.machine.pid(KERNEL)
    stage.machine.run("systemctl", "restart", KERNEL)
    assert not is_alive(old)
    stage.says(HOST, "epoch 2")
    assert stage.workers(runs) == before
    stage.let_go(ledger, runs)
    assert stage.machine.property(HOST, "NRestarts") == "0"


def test_a_kernel_that_hangs_or_is_killed_is_started_again(stage: Stage) -> None:
    """The watchdog ends a kernel that no longer turns; systemd starts another one each time, and the steps continue."""
    ledger, runs, before = stage.start_steps()
    epoch = stage.client.get_kernel().epoch
    for number in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(eventually(lambda: stage.machine.pid(KERNEL)), number)
        epoch += 1
        stage.says(HOST, f"epoch {epoch}")
    assert stage.machine.property(KERNEL, "NRestarts") == "2"
    assert stage.workers(runs) == before
    stage.let_go(ledger, runs)


def test_a_reload_is_over_when_the_host_says_so(stage: Stage) -> None:
    """``systemctl reload`` of the host loads its new code beside the old."""
    stage.says(HOST, "; generation 1")
    stage.machine.run("systemctl", "reload", HOST)
    stage.says(HOST, "; generation 2")
    assert stage.machine.property(HOST, "ActiveState") == "active"


def test_a_mistake_in_the_settings_is_not_tried_again(stage: Stage) -> None:
    """A kernel that says that its configuration is wrong stays down, until somebody mends it."""
    settings = stage.project / "nomaflow.toml"
    settings.write_text(FILES["nomaflow.toml"] + "[kernel]\nlease_seconds = 'long'\n")
    refused = stage.machine.run("systemctl", "restart", KERNEL, check=False)
    assert refused.returncode != 0
    facts = [stage.machine.property(KERNEL, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert facts == ["failed", "78", "0"]
    settings.write_text(FILES["nomaflow.toml"])
    stage.machine.run("systemctl", "start", KERNEL)
    stage.says(HOST, "attached to the kernel")


def test_a_drain_longer_than_the_units_limit_is_not_cut_short(stage: Stage) -> None:
    """A host whose drain_seconds are more than TimeoutStopSec= is given them; when it has ended nothing is left."""
    ledger, runs, _ = stage.start_steps()
    pid = stage.machine.pid(HOST)
    below = set(pids_below(pid))
    stage.machine.run("systemctl", "stop", "--no-block", HOST)
    with pytest.raises(AssertionError, match="still not so"):
        eventually(lambda: not is_alive(pid), seconds=4)  # twice the unit's own limit
    assert stage.machine.property(HOST, "StatusText") == "stopping: 2 steps may finish within 1 min"
    stage.let_go(ledger, runs)
    eventually(lambda: stage.machine.property(HOST, "ActiveState") == "inactive")
    assert stage.machine.property(HOST, "Result") == "success"
    assert not any(is_alive(each) for each in below)
    stage.machine.run("systemctl", "start", HOST)
    stage.says(HOST, "attached to the kernel")


def test_status_and_uninstall_know_what_runs(stage: Stage) -> None:
    """``service status`` shows what the processes say; what runs is not removed, and what is stopped is."""
    assert "attached to the kernel" in stage.machine.nomaflow("service", "status")
    refused = stage.machine.run(*("sh", "-c", f"{sys.executable} -m nomaflow_cli service uninstall 2>&1"), check=False)
    assert refused.returncode == 1
    assert f"systemctl disable --now {KERNEL} {HOST}" in refused.stdout
    stage.machine.run("systemctl", "disable", "--now", KERNEL, HOST)
    stage.machine.nomaflow("service", "uninstall")
    assert "no units are installed" in stage.machine.nomaflow("service", "status")
