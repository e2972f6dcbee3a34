"""Hosts that have joined over TCP: false kernels, renewal, revocation, another authority, a backup; no step is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from faults_system import FaultSystem

from certificate_authority import Authority
from nomaflow.client import ClientError
from nomaflow_api.private_file import write_private
from nomaflow_api.v1 import access_service_pb2 as access
from nomaflow_api.v1.access_service_pb2_grpc import AccessServiceStub
from processes import is_alive
from real_system import CLOCKS, PATIENCE, Running, eventually, free_ports, run_to_end

pytestmark = pytest.mark.e2e

FALSE_KERNEL = '''
"""Poses as the kernel's door for hosts: takes all it hears, and tells a host that gets so far to run a command."""
import asyncio, sys
import grpc, grpc.aio
address, kind, heard, cert, key = sys.argv[1:]

async def attach(requests, context):
    async for request in requests:
        open(heard, "ab").write(request or b"a message")

async def main():
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handler = grpc.stream_stream_rpc_method_handler(attach)
    service = grpc.method_handlers_generic_handler("nomaflow_api.v1.HostGatewayService", {"Attach": handler})
    server.add_generic_rpc_handlers((service,))
    if kind == "tls":
        server.add_secure_port(address, grpc.ssl_server_credentials([(open(key, "rb").read(), open(cert, "rb").read())]))
    else:
        server.add_insecure_port(address)
    await server.start()
    print("listening", flush=True)
    await server.wait_for_termination()

asyncio.run(main())
'''


EACH_SECOND = """
[[jobs]]
id = "each_second"
schedule = "* * * * * *"
overlap = "allow"
steps = [{ callable = "faulty.steps:ticks", op_kwargs = { ledger = "/dev/null", until = "/dev/null" } }]
"""


def fires(system: FaultSystem) -> set[str]:
    """Return the runs of the job that fires each second."""
    return {run.run_id for run in system.api.list_runs(job_id="each_second")}


@pytest.fixture
def system() -> Iterator[FaultSystem]:
    """Start a kernel with doors on TCP, at ports that it keeps over restarts."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    # No host is given up while a person, or a busy machine, lets it join again, and none loses its session to the latter.
    clocks = (*CLOCKS[:2], "--lease-seconds", "20", "--lost-after-seconds", "120")
    flags = (*clocks, "--address", f"unix:,tls://127.0.0.1:{free_ports(3)}")
    started = FaultSystem(root=root, kernel_flags=flags, forks_templates=True)
    try:
        started.start_kernel()
        started.client()
        started.counting_project("team")
        yield started
    finally:
        started.close()
    shutil.rmtree(root)


def join(system: FaultSystem, host: str = "team") -> Running:
    """Have a host join and attach."""
    return system.start_host(host, "--join", str(system.join_file(host)), dials=False)


def started(project: Path, *flags: str) -> tuple[int, str]:
    """Start a host that ends by itself; return its exit code and what it says."""
    return run_to_end("nomaflow_host", "--project", str(project), *flags)


def facts(system: FaultSystem, host: str = "team") -> dict[str, object]:
    """Return the facts of a host's identity."""
    found: dict[str, object] = json.loads(identity(system, host).read_bytes())
    return found


def identity(system: FaultSystem, host: str = "team") -> Path:
    """Return the file of a host's identity."""
    return system.root / host / ".nomaflow" / "identity.json"


def make_due(system: FaultSystem) -> None:
    """Have the host believe that its certificate began long ago, so that it is time to renew."""
    old = facts(system)
    file = identity(system)
    now = int(time.time())
    write_private(file, json.dumps({**old, "issued_at": now - 60, "expires_at": now + 20}).encode())


def test_whoever_takes_the_port_of_a_kernel_hears_nothing(system: FaultSystem) -> None:
    """V1: a process that takes the hosts' port during a restart of the kernel gets no data and starts nothing."""
    host = join(system)
    work = system.work("sync_ticks").under_way()
    door = str(facts(system)["addresses"][0]).removeprefix("tls://")  # type: ignore[index]  # a list
    authority = Authority(system.root)
    pair = authority.issue("false", "127.0.0.1", "localhost")
    program, heard = system.root / "false.py", system.root / "heard"
    program.write_text(FALSE_KERNEL)
    system.kill("kernel")
    for kind, said in (("plain", "does not speak TLS"), ("tls", "is not the kernel that this side trusts")):
        command = [sys.executable, str(program), door, kind, str(heard), str(pair.cert), str(pair.key)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as false:
            try:
                assert false.stdout is not None
                assert false.stdout.readline()
                eventually(lambda: said in host.log)  # noqa: B023  # asked within the round
            finally:
                false.kill()
    assert not heard.exists()
    work.goes_on()
    system.start_kernel()
    system.until_state("team", "ATTACHED")
    work.succeeds_whole()
    assert not host.ended


def test_a_certificate_is_renewed_under_load(system: FaultSystem) -> None:
    """Steps run and report while the host renews, and attaches once more to show the new certificate."""
    host = join(system)
    before = facts(system)["serial"]
    make_due(system)
    assert host.stop() == 0
    host = system.start_host("team", dials=False)
    works = [system.work(job, lines=5_000, width=100) for job in ("shout", "sync_shout", "shout")]
    eventually(lambda: facts(system)["serial"] != before)
    eventually(lambda: "the certificate was renewed" in host.log)
    for work in works:
        assert system.end(work.run_id).state == "SUCCEEDED"
        work.is_whole()
    eventually(lambda: host.log.count("attached to the kernel") == 3)  # once in its first life
    assert "no session" not in host.log
    system.work("ticks").under_way().succeeds_whole()
    # Whoever had the key of the one before may have renewed it: it is withdrawn with all that follow.
    assert set(revoke(system, str(before))) == {before, facts(system)["serial"]}
    eventually(lambda: system.state_of("team") != "ATTACHED", seconds=20)


def test_a_revoked_host_is_gone_within_five_seconds(system: FaultSystem) -> None:
    """Its session ends and its jobs go off; both are back, and what ran is reported whole, once it has joined again."""
    system.counting_project("team", more_jobs=EACH_SECOND)
    host = join(system)
    work = system.work("sync_ticks").under_way()
    pid = work.ledger.pid()
    eventually(lambda: fires(system))
    revoke(system, "host:team")
    eventually(lambda: system.state_of("team") != "ATTACHED", seconds=20)
    eventually(lambda: "nomaflow token create --host team" in host.log)
    work.goes_on()
    assert work.run().state == "RUNNING"
    before = fires(system)
    system.kill("kernel")
    system.start_kernel()
    job = system.api.get_job("each_second")
    assert (job.valid, job.next_fires) == (False, ())
    with pytest.raises(ClientError, match="the access of host 'team' was revoked"):
        system.work("ticks")
    time.sleep(2)
    assert fires(system) == before
    assert is_alive(pid)
    # The running host reads its identity at each try: it can join again without a restart, which would end its steps.
    again = ("--name", "team", "--join", str(system.join_file("team")))
    code, told = started(system.root / "team", *again)
    assert (code, "this host already runs" in told) == (0, True), told
    assert started(system.root / "team", *again)[0] == 75  # that string is used: this is a second start and no more
    system.until_state("team", "ATTACHED")
    work.succeeds_whole()
    eventually(lambda: fires(system) - before)
    system.work("ticks").under_way().succeeds_whole()


def test_the_authority_is_replaced_under_running_hosts(system: FaultSystem) -> None:
    """Hosts that know only the old one go on over a restart of the kernel; at their renewal they learn the new one."""
    host = join(system)
    work = system.work("sync_ticks").under_way()
    old = facts(system)["authorities"]
    with grpc.insecure_channel(system.kernel_address) as channel:
        request = access.RenewAuthorityRequest(replace=True)
        AccessServiceStub(channel).RenewAuthority(request, timeout=PATIENCE)
    assert system.state_of("team") == "ATTACHED"
    system.kill("kernel")
    system.start_kernel()
    eventually(lambda: host.log.count("attached to the kernel") >= 2)
    assert facts(system)["authorities"] == old
    work.goes_on()
    system.counting_project("later", prefix="later_")
    join(system, "later")  # with a string that names the new authority
    make_due(system)
    # The renewer looks at its files each ten minutes, and when a session begins.
    system.kill("kernel")
    system.start_kernel()
    eventually(lambda: facts(system)["authorities"] != old)
    system.until_state("team", "ATTACHED")
    work.succeeds_whole()
    assert host.process.poll() is None


def test_a_join_string_is_good_for_one_host_once(system: FaultSystem) -> None:
    """Used twice, expired, altered, stolen after use: exit 78 and one sentence with the way out each."""
    used = system.root / "used"
    used.write_text(system.cli("token", "create", "--host", "team").out)
    system.start_host("team", "--join", str(used), dials=False).stop()
    expired = system.join_file("team", seconds=1)
    altered = system.root / "altered"
    text = used.read_text()
    altered.write_text(text[:-30] + ("A" if text[-30] != "A" else "B") + text[-29:])
    time.sleep(1.2)
    thief = system.root / "thief"
    shutil.copytree(system.root / "team", thief, ignore=shutil.ignore_patterns(".nomaflow"))
    for string in (used, expired, altered):
        code, told = started(thief, "--name", "team", "--join", str(string))
        assert code == 78, told
        assert "nomaflow token create --host" in told
        assert "Traceback" not in told
        assert text.strip() not in told
    assert not (thief / ".nomaflow" / "identity.json").exists()
    system.kill("kernel")
    code, told = started(thief, "--name", "team", "--join", str(used))
    assert (code, "no kernel answers" in told) == (70, True), told


def test_an_instance_that_ends_when_it_is_idle_waits_for_its_kernel_as_long(system: FaultSystem) -> None:
    """An engine has started it, perhaps after hours, just as the kernel starts again; then it joins."""
    join_file = str(system.join_file("team"))
    system.kill("kernel")
    flags = ("--join", join_file, "--idle-exit-seconds")
    code, told = started(system.root / "team", "--name", "team", *flags, "0.1")
    assert code == 70, told
    instance = system.start_host("team", *flags, "600", dials=False, serves=False)
    eventually(lambda: "where the join string says that it can be joined; trying for" in instance.log)
    system.start_kernel()
    system.until_state("team", "ATTACHED")


def test_a_kernel_restored_from_a_backup_knows_the_hosts_of_that_time(system: FaultSystem) -> None:
    """They attach as before; one that has joined since is told to join again."""
    join(system)
    work = system.work("ticks").under_way()
    work.succeeds_whole()
    backup = system.root / "backup.db"
    system.cli("backup", str(backup))
    system.counting_project("since", prefix="since_")
    since = join(system, "since")
    system.stop("kernel")
    system.cli("restore", str(backup), "--force", "--no-pause")
    system.start_kernel()
    system.until_state("team", "ATTACHED")
    system.work("ticks").under_way().succeeds_whole()
    eventually(lambda: "nomaflow token create --host since" in since.log)
    assert since.stop() == 0
    join(system, "since")
    system.until_state("since", "ATTACHED")


def revoke(system: FaultSystem, target: str) -> list[str]:
    """Withdraw credentials as the owner, and return the certificates' serials."""
    with grpc.insecure_channel(system.kernel_address) as channel:
        done = AccessServiceStub(channel).RevokeTokens(access.RevokeTokensRequest(target=target), timeout=PATIENCE)
    return list(done.serials)
