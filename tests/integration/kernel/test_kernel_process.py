"""The kernel as a process: where it listens, whom it lets in, how it stops."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kernel_process import DEADLINE, KernelProcess, ScriptedHost, ended, manifest

from cli_command import command_in
from doors import doors_of
from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_api.v1.kernel_service_pb2_grpc import KernelServiceStub
from nomaflow_kernel.process.settings import SettingsError, read_settings
from waiting import eventually


async def health_of(process: KernelProcess, service: str = "") -> int:
    """Return the serving status of a service."""
    stub: Any = health_pb2_grpc.HealthStub(process.channel())
    request = health_pb2.HealthCheckRequest(service=service)
    return int((await stub.Check(request, timeout=DEADLINE)).status)


async def test_only_the_owner_can_reach_the_socket_of_a_kernel_started_without_configuration(
    process: KernelProcess,
) -> None:
    """The socket lies in a directory with mode 0700, and so does everything the kernel keeps."""
    path = Path(process.address.removeprefix("unix:"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((process.project / ".nomaflow").stat().st_mode) == 0o700
    assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING


async def test_a_second_kernel_on_the_same_store_ends_at_once(process: KernelProcess) -> None:
    """A second kernel exits with 75 and a sentence that names the other process; the first keeps serving."""
    code, text = await ended("--project", str(process.project))
    assert code == 75
    assert process.process is not None
    assert str(process.process.pid) in text
    assert text.count("\n") == 1
    assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING


async def test_a_socket_that_answers_is_never_taken_over(process: KernelProcess, project: Path) -> None:
    """Another store does not make it another address: exit 75, and the first kernel keeps its socket."""
    code, text = await ended("--project", str(project), "--store", f"sqlite:///{project}/other.db")
    assert code == 75
    assert "listens on" in text
    assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING


async def test_a_kernel_whose_lock_file_was_removed_keeps_its_store(process: KernelProcess) -> None:
    """The second one sees that somebody answers before it takes anything over."""
    (process.project / ".nomaflow" / "kernel.db.lock").unlink()
    code, text = await ended("--project", str(process.project))
    assert code == 75
    assert "listens on" in text
    assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING
    stub: Any = KernelServiceStub(process.channel())
    await stub.Pause(kernel.PauseRequest(by="ann"), timeout=DEADLINE)


async def test_a_socket_left_behind_by_a_killed_kernel_is_replaced(process: KernelProcess) -> None:
    """A kernel killed the hard way does not keep the next one from starting."""
    await process.kill()
    assert Path(process.address.removeprefix("unix:")).exists()
    await process.start()
    assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--address", "unix:relative.sock"], "no absolute path"),
        (["--address", "nonsense"], "command line: listen\n      the address 'nonsense' is neither unix:PATH"),
        (["--listen-hosts", "unix:/tmp/hosts.sock"], "nothing to separate on a Unix socket"),
        (["--store", "mysql://x/y"], "unknown kind of database"),
        (["--heartbeat-seconds", "soon"], "heartbeat_seconds"),
        (["--lease-seconds", "1"], "the lease must be longer"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_named(project: Path, flags: Sequence[str], said: str) -> None:
    """Exit 78 and one sentence, never a traceback."""
    code, text = await ended("--project", str(project), *flags)
    assert code == 78
    assert said in text
    assert "Traceback" not in text


async def test_an_unknown_table_is_refused(project: Path) -> None:
    """The kernel would begin an empty history, where [kernle] names another."""
    (project / "nomaflow.toml").write_text('[kernle]\nstore = "sqlite:///elsewhere.db"\n')
    code, text = await ended("--project", str(project))
    assert (code, "nomaflow.toml:1" in text, "did you mean 'kernel'?" in text) == (78, True, True), text
    assert not (project / ".nomaflow" / "kernel.db").exists()


@pytest.mark.parametrize("files", [20, 31])
async def test_too_few_open_files_are_told(project: Path, files: int) -> None:
    """A kernel that may open too few files ends with 78, the number that it needs, and the way out."""
    kernel = (sys.executable, "-m", "nomaflow_kernel", "--project", str(project))
    command = ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *kernel)
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 78, done.stderr
    assert f"the kernel may have {files} files open, and needs 64 or more; raise the hard limit" in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_low_soft_limit_of_open_files_is_raised(project: Path) -> None:
    """A kernel raises the limit that it may raise, with and without a TCP address."""
    process = KernelProcess(project=project, side=("sh", "-c", 'ulimit -Sn 31; exec "$@"', "sh"))
    try:
        await process.start()
        assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING
    finally:
        await process.close()


async def test_a_malformed_nomaflow_toml_is_named_with_its_line(project: Path) -> None:
    """The file, the line and the key are in the message."""
    (project / "nomaflow.toml").write_text("[kernel]\nheartbeat_second = 3\n")
    code, text = await ended("--project", str(project))
    assert code == 78
    assert "nomaflow.toml" in text
    assert "heartbeat_seconds" in text
    (project / "nomaflow.toml").write_text('[kernel]\nlisten = "tls://127.0.0.1:99999"\n')
    code, text = await ended("--project", str(project))
    assert code == 78
    assert "nomaflow.toml:2: kernel › listen" in text
    assert "the address 'tls://127.0.0.1:99999' is neither" in text
    (project / "nomaflow.toml").write_text("[kernel\n")
    code, text = await ended("--project", str(project))
    assert code == 78
    assert "nomaflow.toml:1" in text
    (project / "nomaflow.toml").unlink()
    (project / "nomaflow.toml").symlink_to("nowhere.toml")
    code, text = await ended("--project", str(project))
    assert code == 78
    assert "a link to a file that does not exist" in text


async def test_a_path_too_long_for_a_socket_moves_to_the_runtime_directory(project: Path) -> None:
    """The project still works; the runtime directory is private, and one that is open to others is repaired."""
    deep = project / ("d" * 100)
    deep.mkdir()
    runtime = project / "rt"
    (runtime / "nomaflow").mkdir(parents=True, mode=0o755)
    process = KernelProcess(project=deep, environ={"XDG_RUNTIME_DIR": str(runtime)})
    try:
        await process.start()
        assert process.address.startswith(f"unix:{runtime}/nomaflow/")
        assert stat.S_IMODE((runtime / "nomaflow").stat().st_mode) == 0o700
        assert await health_of(process) == health_pb2.HealthCheckResponse.SERVING
    finally:
        await process.close()


async def test_a_stop_waits_for_nobody(process: KernelProcess, host: ScriptedHost) -> None:
    """A kernel with a host and an open watch stops in seconds: code 0, watchers informed, the address gone."""
    await host.attach(process.channel())
    client = process.client()
    run_id = (await client.TriggerRun(kernel.TriggerRunRequest(job_id="one"), timeout=DEADLINE)).run_id
    watch = aiter(client.WatchRun(kernel.WatchRunRequest(run_id=run_id)))
    await anext(watch)
    begun = time.monotonic()
    assert await process.stop() == 0
    assert time.monotonic() - begun < 30
    code, _ = await host.ended()
    assert code is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [message async for message in watch]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not (process.project / ".nomaflow" / "address").exists()


async def test_a_stop_waits_for_no_manifest(process: KernelProcess, host: ScriptedHost) -> None:
    """V11: a kernel that checks 20,000 jobs which call each other in a circle stops in seconds all the same."""
    await host.attach(process.channel())
    assert process.process is not None
    times = psutil.Process(process.process.pid).cpu_times
    before = times().user
    circle = [
        {"id": f"j{number}", "steps": [{"type": "call_job", "target_job_id": f"j{(number + 1) % 20_000}"}]}
        for number in range(20_000)
    ]
    introducing = asyncio.create_task(host.introduce(manifest(jobs={"jobs": circle})))
    await eventually(lambda: times().user > before + 1)
    assert not introducing.done()
    used, of_others = times().user, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert await process.stop() == 0
    # Its own time, which tells the same on a busy machine: the check would take up to ten seconds.
    stopping = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - of_others - used
    assert stopping < 5
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await introducing
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_sighup_reads_the_kernels_own_jobs_file_again(project: Path) -> None:
    """A job that is written later is there; if the file is broken, the last good jobs stay, and the problem shows."""
    file = project / "central.toml"
    text = '[[jobs]]\nid = "a"\nhost = "team"\n[[jobs.steps]]\ntype = "python"\ncallable = "m:f"\n'
    file.write_text(text)
    process = KernelProcess(project=project, flags=["--jobs", str(file)])
    try:
        await process.start()
        client = process.client()

        async def ids() -> list[str]:
            answer = await client.ListJobs(kernel.ListJobsRequest(), timeout=DEADLINE)
            return [job.job_id for job in answer.jobs] + [problem.code for problem in answer.problems]

        async def becomes(wanted: list[str]) -> bool:
            return await ids() == wanted

        assert await ids() == ["a"]
        assert process.process is not None
        file.write_text(text + text.replace('"a"', '"b"'))
        os.kill(process.process.pid, signal.SIGHUP)
        await eventually(lambda: becomes(["a", "b"]))
        file.write_text("[[jobs")
        os.kill(process.process.pid, signal.SIGHUP)
        await eventually(lambda: becomes(["a", "b", "bad_toml"]))
    finally:
        await process.close()


def test_a_variable_without_meaning_is_not_passed_over(project: Path) -> None:
    """A variable that is misspelt or named after a key is refused with what to write; other variables are ignored."""
    for name, told in (
        ("NOMAFLOW_KERNEL_LISTEN", "has no meaning: the variable is NOMAFLOW_KERNEL_ADDRESS"),
        ("NOMAFLOW_KERNEL_METRICS_TLS_KEY", "has no meaning: write metrics_tls_key in nomaflow.toml"),
        ("NOMAFLOW_KERNEL_LOG_LEVL", "is unknown; did you mean NOMAFLOW_KERNEL_LOG_LEVEL"),
    ):
        with pytest.raises(SettingsError, match=f"{name} {told}"):
            read_settings(["--project", str(project)], {name: "x"})
    read_settings(["--project", str(project)], {"NOMAFLOW_KERNEL_SERVICE_HOST": "10.0.0.1"})


def test_a_value_of_another_section_is_not_for_the_kernel_to_refuse(project: Path) -> None:
    """Whatever TOML can say below [app] is for the callables."""
    (project / "nomaflow.toml").write_text("[app]\nlimit = inf\n[kernel]\nlease_seconds = 30\n")
    assert read_settings(["--project", str(project)], {}).kernel.lease_seconds == 30


async def test_two_kernels_never_share_a_port(project: Path) -> None:
    """The second one ends with 75: its port is taken."""
    (project / "other").mkdir()
    process = KernelProcess(project=project, flags=("--address", "127.0.0.1:0"))
    try:
        await process.start()
        taken = doors_of(process)
        for flags in (("--address", taken.clients, "--listen-hosts", "127.0.0.1:0"), ("--listen-hosts", taken.hosts)):
            code, text = await ended("--project", str(project / "other"), *flags)
            assert code == 75
            assert ("cannot listen" in text, "[kernel] listen, listen_hosts or listen_join" in text) == (True, True)
            complaints = [line for line in text.splitlines() if line.startswith("nomaflow kernel:")]
            assert len(complaints) == 1
            assert "Traceback" not in text
    finally:
        await process.close()


@pytest.mark.parametrize(
    ("address", "code", "why"),
    [
        ("tls://nowhere.invalid:7433", 1, "the name 'nowhere.invalid' is not known here"),
        ("tls://192.0.2.1:7433", 1, "cannot assign requested address"),
    ],
)
async def test_an_address_that_the_machine_lacks_may_come(project: Path, address: str, code: int, why: str) -> None:
    """The system's own reason is told, and the exit code lets a service manager try again."""
    ended_with, text = await ended("--project", str(project), "--address", address)
    assert (ended_with, f"cannot listen on {address!r}: {why}" in text) == (code, True), text
    assert "Traceback" not in text


async def test_a_frozen_peer_is_noticed_in_time(project: Path) -> None:
    """A frozen host keeps its connection open, but its session ends within 15 seconds."""
    process = KernelProcess(project=project, flags=("--address", "127.0.0.1:0"))
    await process.start()
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("frozen_host.py")), str(project), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"attached\n"
        begun = time.monotonic()
        child.send_signal(signal.SIGSTOP)
        await eventually(lambda: "detached" in process.log)
        assert time.monotonic() - begun < 40  # 15 s, and room for a busy machine
    finally:
        child.kill()
        await child.wait()
        await process.close()


async def test_a_frozen_kernel_is_not_called_absent(process: KernelProcess) -> None:
    """Its process is there, and its socket takes connections: commands name both, and what lets it go on."""
    run, pid = command_in(process.project), process.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        told, doctor = await run("jobs"), await run("doctor")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert told.code == 5
    assert f"is there and does not answer: its process {pid} is stopped (SIGSTOP)" in told.err
    assert f"kill -CONT {pid}" in told.err
    assert f"process {pid} holds the store, and is stopped" in doctor.out
    assert (await run("jobs")).code == 0
