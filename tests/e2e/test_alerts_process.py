"""The process of the alerts: killed at any moment, started twice, started first, replayed, started by up."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from alerts_system import AlertsSystem, open_alerts

from real_system import PATIENCE, eventually, launch, launch_up

KILLS = int(os.environ.get("NOMAFLOW_ALERTS_KILLS", "5"))
"""How often the process is killed; `make alerts-storm` does it 100 times."""

JOB = """
[[jobs]]
id = "job{number}"
steps = [{{ name = "one", callable = "team.code:fail" }}]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[AlertsSystem]:
    """Give a project without processes."""
    with open_alerts(tmp_path) as system:
        yield system


def test_a_process_that_is_killed_at_any_moment_loses_and_doubles_nothing(system: AlertsSystem) -> None:
    """The receiver refuses at random meanwhile. Every incident arrives, none under two ids."""
    dice = random.Random(4)
    system.settings()
    system.write("".join(JOB.format(number=number) for number in range(KILLS)))
    system.start_kernel()
    system.start_host()
    system.web.answer = lambda path, body: dice.choice((200, 200, 500, 0))
    part = system.start_alerts()
    for number in range(KILLS):
        system.api.wait(system.api.trigger(f"job{number}").run_id)
        if number % 4:  # on a busy machine it would be killed while it starts, and nowhere else
            eventually(lambda: (system.project / ".nomaflow" / "alerts.address").exists(), seconds=120)
        time.sleep(dice.uniform(0.0, 2.0))  # the moment is the subject
        part.kill()
        (system.project / ".nomaflow" / "alerts.address").unlink(missing_ok=True)
        part = system.launch_alerts()

    def taken() -> dict[str, int]:
        return {post.json["id"]: post.json["total"] for post in system.web.posts if post.status == 200}

    eventually(lambda: sum(taken().values()) >= KILLS, seconds=120)
    eventually(lambda: (system.project / ".nomaflow" / "alerts.address").exists(), seconds=120)
    eventually(lambda: not [each for each in system.messages() if each["state"] == "pending"])
    open_ones = {each["job_id"]: each["incident_id"] for each in system.incidents() if each["condition"] == "failed"}
    assert open_ones.keys() == {f"job{number}" for number in range(KILLS)}
    messages = {each["message_id"]: each["incident_ids"] for each in system.messages()}
    assert taken().keys() == messages.keys()
    told = Counter(number for numbers in messages.values() for number in numbers)
    assert {told[number] for number in open_ones.values()} == {1}


def test_a_second_process_waits_for_the_end_of_the_first(system: AlertsSystem) -> None:
    """It stands by on the file's lock, and goes on where the first one was."""
    system.settings()
    system.write(JOB.format(number=0))
    system.start_kernel()
    system.start_host()
    first = system.start_alerts()
    system.parts["second"] = second = launch("nomaflow_alerts", system.project, log_file=system.root / "second.log")
    eventually(lambda: "another process has" in second.log)
    first.kill()
    eventually(lambda: "alerts are served" in second.log)
    system.parts.pop("alerts")
    system.ask("run", "job0", "--wait", code=1)
    assert system.received(1)[0]["subject"] == "job0 failed"


def test_a_first_start_tells_what_is_open_in_one_message(system: AlertsSystem) -> None:
    """Old failures are no flood; a dry run tells what each would have been."""
    system.settings()
    system.write("".join(JOB.format(number=number) for number in range(3)))
    system.start_kernel()
    system.start_host()
    for number in range(3):
        system.ask("run", f"job{number}", "--wait", code=1)
    system.start_alerts()
    [told] = system.received(1)
    assert told["subject"] == "3 jobs of team failed"
    lines = system.cli("alerts", "replay", "--dry-run", "-o", "json").out.splitlines()
    replayed = [json.loads(line) for line in lines]
    # Failures that came close together are told in one message here, too.
    told = " ".join(each["subject"] + each["body"] for each in replayed)
    assert {f"job{number} failed" in told for number in range(3)} == {True}
    assert len(system.web.taken()) == 1
    assert "--dry-run" in system.cli("alerts", "replay", code=2).err


def test_an_idle_process_is_small(system: AlertsSystem) -> None:
    """With a heartbeat it has about 57 MiB: what only checks settings, or sends to a chat, is not in memory."""
    system.settings(f'heartbeat_url = "{system.web.url}/beat"')
    system.write(JOB.format(number=0))
    system.start_kernel()
    system.start_host()
    part = system.start_alerts()
    eventually(lambda: len(system.web.taken("/beat")) >= 2)
    assert psutil.Process(part.pid).memory_info().rss < 75 << 20


def test_settings_that_tell_nobody_are_refused(system: AlertsSystem) -> None:
    """Exit code 78 with the way out; no secret is shown."""
    (system.project / "nomaflow.toml").write_text("[alerts]\ngroup_seconds = 1\n")
    part = system.launch_alerts()
    assert part.process.wait(60) == 78
    assert "has no channel" in part.log
    (system.project / "nomaflow.toml").write_text('[alerts]\nchannels.a = { url = "${NOT_SET_HERE}" }\n')
    part = system.launch_alerts()
    assert part.process.wait(60) == 78
    assert "NOT_SET_HERE" in part.log
    system.parts.clear()
    told = json.loads(system.cli("alerts", "replay", "--dry-run", "-o", "json", code=1).err)["error"]
    assert (told["reason"], "NOT_SET_HERE" in told["message"]) == ("REPLAY_FAILED", True)
    (system.project / "nomaflow.toml").write_text("[alerts]\ngroup_seconds = 1\n")
    assert "✘ nomaflow.toml has no channel in [alerts]" in system.cli("alerts", "replay", "--dry-run", code=1).err
    answer = system.cli("alerts", "open", code=5)
    assert "no alerts are served" in answer.err
    assert "nomaflow alerts serve" in answer.err


def test_up_starts_the_alerts_and_doctor_knows_them(system: AlertsSystem) -> None:
    """A project with [alerts] gets them; doctor warns that nobody would notice their end."""
    system.settings()
    system.write(JOB.format(number=0))
    system.parts["up"] = up = launch_up(system.project, "--no-console", "-o", "json", log_file=system.root / "up.log")
    eventually(lambda: '"type":"alerts"' in up.log, seconds=90)
    findings = system.cli("doctor", "-o", "json", code=None).json["findings"]
    of_alerts = {each["check"]: each["level"] for each in findings if each["check"].startswith("alerts.")}
    assert of_alerts == {"alerts.process": "ok", "alerts.channels": "ok", "alerts.heartbeat": "warning"}
    up.stop()
    findings = system.cli("doctor", "-o", "json", code=None).json["findings"]
    [process] = [each for each in findings if each["check"] == "alerts.process"]
    assert (process["level"], "systemctl start nomaflow-alerts" in process["fix"]) == ("problem", True)


@pytest.mark.parametrize(("module", "code"), [("nomaflow_alerts", 75), ("nomaflow_launchers", 78)])
def test_a_folder_that_cannot_be_used_is_told_in_a_line(tmp_path: Path, module: str, code: int) -> None:
    """With the way out; a traceback would say nothing to whoever has copied a project wrongly."""
    (tmp_path / "nomaflow.toml").write_text(
        '[alerts]\nchannels.ops = { url = "json://127.0.0.1/" }\n[launcher]\nengine = "slurm"\nhosts = ["team"]\n'
    )
    (tmp_path / ".nomaflow").touch()
    command = [sys.executable, "-P", "-m", module, "--project", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (code, 1), ended.stderr
    assert str(tmp_path / ".nomaflow") in ended.stderr
    assert "it has to be a folder of the user that runs this" in ended.stderr
