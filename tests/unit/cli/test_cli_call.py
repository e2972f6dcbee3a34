"""``nomaflow call`` runs a callable in the environment that a worker would have."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli_command import Command
from processes import pids_below, still_alive


async def test_call_withholds_what_a_host_would(command: Command, tmp_path: Path) -> None:
    """A callable sees the environment that it would have in a worker; what it misses is told with the way out."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "late.py").write_text(
        "import os\ndef step(*, zone='', **_):\n    return {'region': os.environ['REGION'], 'zone': zone}\n"
    )
    (tmp_path / "plugins" / "early.py").write_text("import os\nZONE = os.environ['REGION']\ndef step(**_): return 1\n")
    (tmp_path / "nomaflow.toml").write_text("[host]\nname = 'team'\n")
    env = {"NOMAFLOW_PROJECT": str(tmp_path), "REGION": "eu", "ZONE": "b"}
    for module in ("late", "early"):
        done = await command("call", f"{module}:step", "-o", "json", env=env)
        assert done.code == 1
        assert "list it in [host] pass_env" in json.loads(done.out)["error"], done
    (tmp_path / "nomaflow.toml").write_text("[host]\npass_env = ['REG*']\n")
    done = await command("call", "late:step", "-p", 'zone="${ZONE}"', "-o", "json", env=env)
    assert json.loads(done.out)["extras"] == {"region": "eu", "zone": "b"}
    assert (await command("call", "early:step", "-o", "json", env=env)).code == 0


@pytest.mark.parametrize(
    ("app", "code", "told"),
    [
        ("region = '${REGION:-eu}'", 0, {"extras": {"region": "eu"}, "reason": None}),
        ("region = '${REGION}'", 1, {"extras": {}, "reason": "project_unusable"}),
        ("region = ", 1, {"extras": {}, "reason": "project_unusable"}),
    ],
)
async def test_settings_are_those_of_a_host(
    command: Command, tmp_path: Path, app: str, code: int, told: dict[str, object]
) -> None:
    """A callable sees the settings as a host gives them; without them it does not run."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "late.py").write_text("def step(*, settings, **_):\n    return dict(settings.app)\n")
    (tmp_path / "nomaflow.toml").write_text(f"[app]\n{app}\n")
    done = await command("call", "late:step", "-o", "json", env={"NOMAFLOW_PROJECT": str(tmp_path)})
    assert (done.code, {name: done.json[name] for name in told}) == (code, told)


@pytest.mark.parametrize(("level", "kept"), [("debug", ["d", "i", "w"]), ("INFO", ["i", "w"])])
async def test_the_log_is_shown_from_a_level_on(command: Command, tmp_path: Path, level: str, kept: list[str]) -> None:
    """No line below it is shown, and the callable sees it as the level of its run's log."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "talks.py").write_text(
        "import logging\nlog = logging.getLogger('team')\ndef step(*, ctx, **_):\n"
        "    log.debug('d'), log.info('i'), log.warning('w')\n    return {'level': ctx.log_level}\n"
    )
    done = await command(
        "call", "talks:step", "--log-level", level, "-o", "json", env={"NOMAFLOW_PROJECT": str(tmp_path)}
    )
    assert done.json["extras"] == {"level": level.upper()}
    assert [line[-1] for line in done.err.splitlines() if " team: " in line] == kept


async def test_a_traceback_begins_with_the_author(command: Command, tmp_path: Path) -> None:
    """The traceback of a callable has no frames of the command, in a plain function as in a coroutine."""
    (tmp_path / "plugins").mkdir()
    code = "def step(**_):\n    raise ValueError\nasync def astep(**_):\n    step()\n"
    (tmp_path / "plugins" / "early.py").write_text(code)
    (tmp_path / "nomaflow.toml").write_text("[host]\nname = 'team'\n")
    for name in ("step", "astep"):
        done = await command("call", f"early:{name}", "-o", "json", env={"NOMAFLOW_PROJECT": str(tmp_path)})
        frames = [line for line in done.err.splitlines() if line.startswith("  File ")]
        assert f"line {2 if name == 'step' else 4}, in {name}" in frames[0], done.err
        assert json.loads(done.out)["error"] == "ValueError"


CODE = """
import os, subprocess

def shows(*, it, **_):
    return {"given": repr(it)}

def large(*, size, **_):
    return {"text": "a" * size}

def leaves(**_):
    left = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    return {"pid": left.pid}

def dies(**_):
    print(subprocess.Popen(["sleep", "3600"]).pid, flush=True)
    os._exit(7)

def forks(**_):
    return {"forked": os.fork(), "pid": os.getpid()}

async def aforks(**_):
    return forks()

async def waits(**_):
    import asyncio
    try:
        print("ready", flush=True)
        await asyncio.sleep(3600)
    finally:
        print("cleaned up", flush=True)

def interrupts(**_):
    import pathlib, signal, threading, time
    main = pathlib.Path(f"/proc/self/task/{os.getpid()}/wchan")
    while "epoll" not in main.read_text():
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    time.sleep(3600)

def sleeps(**_):
    import time
    print("ready", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def project(tmp_path: Path) -> dict[str, str]:
    """Make a project with the code, and return the variable that names it."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "early.py").write_text(CODE)
    (tmp_path / "nomaflow.toml").write_text("[host]\nname = 'team'\n")
    return {"NOMAFLOW_PROJECT": str(tmp_path)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"$date": "2026-01-31"}', {"extras": {"given": "datetime.date(2026, 1, 31)"}, "error": None}),
        ('{"$date": "soon"}', {"extras": {}, "error": "it: $date holds 'soon', expected ISO text"}),
    ],
)
async def test_dates_are_tagged_as_for_a_run(
    command: Command, project: dict[str, str], given: str, told: dict[str, object]
) -> None:
    """A value of --param means the same to nomaflow call as to nomaflow run."""
    done = await command("call", "early:shows", "-p", f"it={given}", "-o", "json", env=project)
    assert {name: done.json[name] for name in told} == told


async def test_a_missing_argument_is_given_by_param(command: Command, project: dict[str, str]) -> None:
    """The error of a call without a required argument names the option that gives it."""
    done = await command("call", "early:large", env=project)
    assert done.code == 1
    assert "needs 'size'" in done.out
    assert "--param key=json" in done.out


async def test_a_result_may_be_large(command: Command, project: dict[str, str]) -> None:
    """A result may have up to a mebibyte."""
    large = await command("call", "early:large", "-p", "size=900000", "-o", "json", env=project)
    assert len(large.json["extras"]["text"]) == 900_000


@pytest.mark.parametrize("name", ["forks", "aforks"])
async def test_a_forked_process_ends_where_the_code_ends(command: Command, project: dict[str, str], name: str) -> None:
    """The process that the callable forked does not return from it; the one that was started gives the result."""
    async with asyncio.timeout(30):
        done = await command("call", f"early:{name}", "-o", "json", env=project)
    assert done.json["extras"]["forked"] > 0
    assert "a process that the step forked came back from the step's code" in done.err
    assert not Path(f"/proc/{done.json['extras']['forked']}").exists()


@pytest.mark.parametrize(("name", "told"), [("waits", ["cleaned up"]), ("sleeps", [])])
def test_ctrl_c_ends_the_callable(project: dict[str, str], name: str, told: list[str]) -> None:
    """A coroutine cleans up, a plain function ends where it is; neither prints a traceback."""
    command = [sys.executable, "-m", "nomaflow_cli", "call", f"early:{name}"]
    environ = {**os.environ, **project}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr.read().splitlines() == told
    assert process.returncode == 130


async def test_a_signal_that_interrupts_no_wait_is_noticed(command: Command, project: dict[str, str]) -> None:
    """One that comes just before the loop waits, or to another thread, would be noticed at the next event."""
    async with asyncio.timeout(30):
        done = await command("call", "early:interrupts", env=project)
    assert "the process of the callable ended without a result: exit code 130" in done.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_callable_ends_with_the_command(project: dict[str, str], number: signal.Signals) -> None:
    """A program that ends the command alone leaves no callable behind."""
    command = [sys.executable, "-m", "nomaflow_cli", "call", "early:waits"]
    environ = {**os.environ, **project}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        [child] = pids_below(process.pid)
        process.send_signal(number)
        process.wait()
        left = still_alive([child], seconds=60)
        for each in left:
            os.kill(each, signal.SIGKILL)
        assert not left
        assert process.stderr.read() == "cleaned up\n"


def test_ctrl_c_during_the_start_prints_nothing(project: dict[str, str]) -> None:
    """The interpreter of the callable is interrupted while it loads its first modules."""
    command = [sys.executable, "-m", "nomaflow_cli", "call", "early:sleeps"]
    environ = {**os.environ, **project, "PYTHONPROFILEIMPORTTIME": "1"}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stderr is not None
        starts = (line for line in process.stderr if "imported package" in line)  # the head of each interpreter's table
        assert next(starts)
        assert next(starts)
        assert any("asyncio" in line for line in process.stderr)
        os.killpg(process.pid, signal.SIGINT)
        told = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert (process.returncode, told) == (130, [])


async def test_what_the_code_leaves_is_ended(command: Command, project: dict[str, str]) -> None:
    """A process that the callable leaves is ended, whatever its session and however the callable ends."""
    left = await command("call", "early:leaves", "-o", "json", env=project)
    assert (left.code, left.json["state"]) == (0, "SUCCEEDED")
    died = await command("call", "early:dies", env=project)
    assert (died.code, "exit code 7" in died.err) == (1, True)
    for done, pid in ((left, left.json["extras"]["pid"]), (died, int(died.err.split()[0]))):
        assert not Path(f"/proc/{pid}").exists()
        assert "ended a process that the callable had left behind" in done.err
