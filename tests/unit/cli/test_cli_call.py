"""``nomaflow call`` runs a callable in the environment that a worker would have."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from cli_command import Command


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
import os, time

def large(*, size, **_):
    return {"text": "a" * size}

def leaves(**_):
    pid = os.fork()
    if not pid:
        time.sleep(3600)
    return {"pid": pid}

async def forks(**_):
    os.fork()
    return {"pid": os.getpid()}
"""


async def test_a_large_result_and_processes_that_are_left_hold_nothing_up(command: Command, tmp_path: Path) -> None:
    """A result may have up to a mebibyte; only the process that was started gives one, and only it is waited for."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "early.py").write_text(CODE)
    (tmp_path / "nomaflow.toml").write_text("[host]\nname = 'team'\n")
    env = {"NOMAFLOW_PROJECT": str(tmp_path)}
    async with asyncio.timeout(60):
        large = await command("call", "early:large", "-p", "size=900000", "-o", "json", env=env)
        left = await command("call", "early:leaves", "-o", "json", env=env)
        forked = await command("call", "early:forks", "-o", "json", env=env)
    assert len(large.json["extras"]["text"]) == 900_000
    os.kill(left.json["extras"]["pid"], signal.SIGKILL)
    assert forked.json["extras"]["pid"]
