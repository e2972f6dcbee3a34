"""The host as a process: ``python -m nomaflow_host`` with real workers, against a scriptable gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import zlib
from pathlib import Path

import pytest
from host_process import JOBS, KEY, WORK, MakeKernel, Start, exit_code, within_a_step

from nomaflow_api.v1 import host_gateway_service_pb2 as pb
from nomaflow_api.v1.letter_words import FinishedState, LogCodec
from nomaflow_api.v1.letters import Event, LogChunk
from nomaflow_api.v1.sealing import open_outcome
from processes import command_of, still_alive


async def test_it_runs_a_real_callable_and_stops_cleanly(kernels: MakeKernel, start: Start, project: Path) -> None:
    """Manifest introduced, log line and result reported; SIGTERM ends it with 0 and leaves no process."""
    kernel = await kernels()
    mine = await start()
    session = await kernel.session()
    assert session.hello.host == "demo"
    await kernel.journal.until(lambda: bool(kernel.journal.manifests))
    manifest = json.loads(zlib.decompress(kernel.journal.manifests[0].manifest_json_zlib))
    assert manifest["callables"]["myapp.work:quick"]["kind"] == "async"
    assert manifest["job_files"][0]["tree"]["jobs"][0]["id"] == "j"
    session.dispatch(KEY, callable="myapp.work:quick", kwargs_json=b'{"n": 7}', strict_keys=("n",))
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY)[-1:] == ["finished"])
    end = kernel.journal.end_of(KEY)
    outcome = open_outcome(end.outcome)
    assert (end.state, outcome.rows_affected) == (FinishedState.SUCCEEDED, 7)
    assert json.loads(outcome.extras_json) == {"said": "hello"}
    assert b"hello 7" in b"".join(map(unpacked, kernel.journal.events[KEY]))
    below = mine.tree()
    assert below
    mine.process.send_signal(signal.SIGTERM)
    assert await exit_code(mine) == 0
    assert session.host_left
    assert not still_alive(below, seconds=30)
    assert not list((project / ".nomaflow" / "host-demo" / "spill").glob("*"))


def unpacked(event: Event) -> bytes:
    if not isinstance(event, LogChunk):
        return b""
    return zlib.decompress(event.body) if event.codec is LogCodec.JSONL_ZLIB else event.body


async def test_what_a_host_tells_its_own_libraries_reaches_no_step(
    kernels: MakeKernel, start: Start, project: Path
) -> None:
    """A host loads no plugins of pydantic for itself, and tells gRPC to be quiet; a step has the user's variables."""
    with (project / "nomaflow.toml").open("a") as file:
        file.write('pass_env = ["PYDANTIC_*", "GRPC_*"]\n')
    (project / "plugins" / "myapp" / "variables.py").write_text(
        "import os\n\nasync def seen(**_):\n    return {'names': [each for each in os.environ if each in NAMES]}\n\n"
        "NAMES = ('PYDANTIC_DISABLE_PLUGINS', 'PYDANTIC_OF_USER', 'GRPC_VERBOSITY')\n"
    )
    kernel = await kernels()
    await start(environ={"PYDANTIC_OF_USER": "1"})
    (await kernel.session()).dispatch(KEY, callable="myapp.variables:seen")
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY)[-1:] == ["finished"])
    outcome = open_outcome(kernel.journal.end_of(KEY).outcome)
    assert json.loads(outcome.extras_json) == {"names": ["PYDANTIC_OF_USER"]}


async def test_a_killed_kernel_does_not_touch_the_step(kernels: MakeKernel, start: Start) -> None:
    """The same worker continues; 100,000 lines, most of them logged during the outage, are all there in order."""
    first = await kernels()
    await start()
    (await first.session()).dispatch(KEY, callable="myapp.work:chatty", kwargs_json=b'{"lines": 100000}')
    await first.journal.until(lambda: first.journal.acked(KEY) >= 2)
    await first.kill()
    second = await kernels(epoch=2)
    (held,) = (await second.session()).inventory
    assert held.attempt_key == KEY
    await second.journal.until(lambda: second.journal.kinds(KEY)[-1:] == ["finished"], 30)
    assert second.journal.kinds(KEY).count("started") == 1
    lines = b"".join(map(unpacked, second.journal.events[KEY])).splitlines()
    messages = [json.loads(line)[3] for line in lines]
    assert messages == [f"line {number:06d}" for number in range(100_000)]


async def test_a_killed_host_is_proved_gone_by_its_successor(kernels: MakeKernel, start: Start) -> None:
    """kill -9 of the main process: the tree is gone, and the next life names the old incarnation in its hello."""
    kernel = await kernels()
    first = await start()
    session = await kernel.session()
    session.dispatch(KEY, callable="myapp.work:stubborn")
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY) == ["started"])
    below = first.tree()
    first.kill()
    await start()
    second = await kernel.session(2)
    assert list(second.hello.ended_incarnations) == [session.hello.incarnation]
    assert second.hello.incarnation != session.hello.incarnation
    assert not still_alive(below)


async def test_leftovers_are_removed_where_the_reaper_was_killed_too(
    kernels: MakeKernel, start: Start, project: Path
) -> None:
    """Main process and reaper both killed: what is left is found, also without its environment, and killed first."""
    kernel = await kernels()
    first = await start()
    session = await kernel.session()
    session.dispatch(KEY, callable="myapp.work:stubborn")
    pid_file = project / "child"
    kwargs = json.dumps({"pid_file": str(pid_file)}).encode()
    session.dispatch("run_2/one/1", callable="myapp.work:sheds", kwargs_json=kwargs, strict_keys=("pid_file",))
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY) == ["started"])
    async with asyncio.timeout(60):
        while not (pid_file.exists() and pid_file.read_text()):
            await asyncio.sleep(0.01)
    below = first.tree()
    assert int(pid_file.read_text()) in below
    reaper = next(pid for pid in below if "nomaflow_host.reaper" in command_of(pid))
    first.process.send_signal(signal.SIGSTOP)
    os.kill(reaper, signal.SIGKILL)
    first.kill()
    await start()
    second = await kernel.session(2)
    assert len(second.hello.ended_incarnations) == 1
    assert not still_alive(below)


async def test_a_second_host_on_the_same_folder_is_turned_away(kernels: MakeKernel, start: Start) -> None:
    """Exit code 75 and who holds it; another name may run beside."""
    kernel = await kernels()
    first = await start()
    await kernel.session()
    second = await start()
    assert await exit_code(second) == 75
    assert f"process {first.process.pid} holds" in second.log
    await start("--name", "other")
    assert (await kernel.session(2)).hello.host == "other"


async def test_a_reload_serves_new_code_and_a_bad_one_is_refused(
    kernels: MakeKernel, start: Start, project: Path
) -> None:
    """SIGHUP introduces a new generation explicitly; a broken one leaves the last good one serving."""
    kernel = await kernels()
    mine = await start()
    session = await kernel.session()
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 1)
    module = project / "plugins" / "myapp" / "work.py"
    module.write_text(WORK + "\n\nasync def more(**_):\n    return 5\n")
    mine.process.send_signal(signal.SIGHUP)
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 2)
    assert kernel.journal.manifests[1].explicit
    session.dispatch(KEY, callable="myapp.work:more")
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY)[-1:] == ["finished"])
    end = kernel.journal.end_of(KEY)
    assert open_outcome(end.outcome).rows_affected == 5
    module.write_text("def broken(:\n")
    session.send(reload=pb.ReloadCommand())
    await kernel.journal.until(lambda: bool(session.reload_results))
    (result,) = session.reload_results
    assert not result.accepted
    assert "myapp.work" in result.message
    assert result.generation == 2
    session.dispatch("run_2/one/1", callable="myapp.work:quick")
    await kernel.journal.until(lambda: kernel.journal.kinds("run_2/one/1")[-1:] == ["finished"])
    assert len(kernel.journal.manifests) == 2
    await kernel.journal.until(lambda: session.heartbeats[-1].code_newer)


async def test_saving_a_file_reloads_with_watch(kernels: MakeKernel, start: Start, project: Path) -> None:
    """A save reloads without a command, also that of a job file."""
    kernel = await kernels()
    await start("--watch")
    await kernel.session()
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 1)
    (project / "jobs.toml").write_text(JOBS.replace('id = "j"', 'id = "j"\nschedule = "0 3 * * *"'))
    await kernel.journal.until(lambda: len(kernel.journal.manifests) == 2)


async def test_it_attaches_when_the_kernel_comes_later(kernels: MakeKernel, start: Start) -> None:
    """Started first, it waits for the address without giving up."""
    mine = await start()
    async with asyncio.timeout(60):
        while "waiting for a kernel" not in mine.log:
            await asyncio.sleep(0.05)
    kernel = await kernels()
    await kernel.session()


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("nomaflow.toml", "[host]\nmax_sinc = 1\n", ["nomaflow.toml", "did you mean 'max_sync'?"]),
        ("nomaflow.toml", "[host\n", ["nomaflow.toml:1"]),
        ("nomaflow.toml", '[jobs]\nconfig_path = "etl\\u0000.toml"\n', ["jobs.config_path", "NUL byte"]),
    ],
)
async def test_an_unusable_project_is_one_screen_and_78(
    start: Start, project: Path, file: str, text: str, expected: list[str]
) -> None:
    """File, line, problem and the way out; no traceback."""
    (project / file).write_text(text)
    mine = await start()
    assert await exit_code(mine) == 78
    assert "Traceback" not in mine.log
    assert len(mine.log.splitlines()) < 10
    for part in expected:
        assert part in mine.log


@pytest.mark.parametrize("address", ["kernel.example.org", "127.0.0.1:99999", "tls://:7433", "unix:", "a:1,foo"])
async def test_an_address_that_can_never_be_reached_is_refused(start: Start, project: Path, address: str) -> None:
    """An unreachable form of address ends the host with code 78 and the valid forms, instead of endless tries."""
    mine = await start("--kernel", address)
    assert await exit_code(mine) == 78
    assert f"--kernel: the kernel's address {address!r} has no known form" in mine.log
    assert "tls://host:port" in mine.log


async def test_a_frozen_host_attaches_again_and_reports_once(kernels: MakeKernel, start: Start) -> None:
    """A host stopped by SIGSTOP beyond the lease gets a new session; the step continues and has one outcome."""
    kernel, mine, session = await within_a_step(kernels, start, seconds=4, lease_ms=2000)
    mine.process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await kernel.session(2, seconds=2.5)
    mine.process.send_signal(signal.SIGCONT)
    second = await kernel.session(2)
    assert second.hello.incarnation == session.hello.incarnation
    assert [held.attempt_key for held in second.inventory] == [KEY]
    await kernel.journal.until(lambda: kernel.journal.kinds(KEY)[-1:] == ["finished"])
    assert kernel.journal.kinds(KEY) == ["started", "finished"]
    assert kernel.journal.end_of(KEY).state is FinishedState.SUCCEEDED
