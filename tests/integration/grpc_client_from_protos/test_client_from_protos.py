"""The .proto files are enough: a program with stubs of its own triggers, watches and reads a run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import nomaflow_api
from nomaflow_api.v1.sealing import open_order

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

from kernel_process import KernelProcess, ScriptedHost, finished, log, started  # found by the line above

PROTOS = Path(nomaflow_api.__file__).parents[1]
CLIENT = Path(__file__).with_name("plain_client.py")


@pytest.fixture
async def stubs(tmp_path: Path) -> Path:
    """Generate stubs from the .proto files alone, somewhere else."""
    source = tmp_path / "protos" / "nomaflow_api" / "v1"
    source.mkdir(parents=True)
    for proto in (PROTOS / "nomaflow_api" / "v1").glob("*.proto"):
        shutil.copy(proto, source)
    out = tmp_path / "stubs"
    (out / "nomaflow_api" / "v1").mkdir(parents=True)
    files = sorted(str(path.relative_to(tmp_path / "protos")) for path in source.glob("*.proto"))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={out}", f"--grpc_python_out={out}", *files,
        cwd=tmp_path / "protos",
    )  # fmt: skip
    assert await child.wait() == 0
    # Regular packages, since those win over the product's own, which is installed in the same interpreter.
    (out / "nomaflow_api" / "__init__.py").touch()
    (out / "nomaflow_api" / "v1" / "__init__.py").touch()
    return out


@pytest.fixture
def project() -> Iterator[Path]:
    """Make an empty project whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="np-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def process(project: Path) -> AsyncIterator[KernelProcess]:
    """Start a kernel process."""
    kernel = KernelProcess(project=project)
    try:
        yield await kernel.start()
    finally:
        await kernel.close()


async def test_a_client_from_the_protos_alone_runs_a_job(process: KernelProcess, stubs: Path) -> None:
    """A client built from the protos sees errors' reasons, one run for equal requests, ordered events, and the log."""
    host = ScriptedHost()
    await host.attach(process.channel())
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(CLIENT), process.address, "one", '{"n": 12345678901234567890}',
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(stubs)},
    )  # fmt: skip
    try:
        dispatch = await host.dispatched()
        assert json.loads(open_order(dispatch.order).params_json) == {"n": 12345678901234567890}
        await host.report(dispatch.attempt_key, 1, started(), log("hello"), finished(3))
        output, _ = await client.communicate()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
        await host.leave()
    told = json.loads(output)
    assert told["stubs"].startswith(str(stubs))
    assert {name.partition(".")[0] for name in told["loaded"]} == {"nomaflow_api"}
    assert told["refusal"] == "nomaflow/JOB_NOT_FOUND"
    assert told["deduplicated"]
    assert (told["state"], told["rows_affected"]) == ("RUN_STATE_SUCCEEDED", 3)
    assert told["params"] == {"n": 12345678901234567890}
    assert told["kinds"][0] == "run.queued"
    assert told["kinds"][-1] == "run.finished"
    assert told["lines"] == ["hello"]
