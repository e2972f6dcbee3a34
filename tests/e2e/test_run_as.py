"""A project's code as another user: what it may do, what it may not, and that the host still rules it."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator

import pytest
from team_system import NOTING_STEPS, TeamSystem, reason_of

from hostile_user import entered_by_all, machine_user, with_python_for_all
from machine_parts import need
from nomaflow_project.reading.encryption import new_key, ring_of
from processes import is_alive
from real_system import eventually, launch

pytestmark = pytest.mark.e2e

CODE = (
    NOTING_STEPS
    + """
import ctypes, errno, signal, socket, sys

def _try(act):
    try:
        return repr(act())
    except OSError as error:
        return errno.errorcode[error.errno]

def _connect(path):
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)

def who(**_):
    caps = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapPrm"))
    subprocess.run(["sh", "-c", "echo from a child > /dev/stdout"])
    return {"uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "caps": int(caps, 16),
            "home": os.environ["HOME"], "user": os.environ["USER"], "mask": os.umask(0o077)}

async def awho(**_):
    return who()

def attacks(*, files, sockets, pids, **_):
    libc = ctypes.CDLL(None, use_errno=True)
    def traced(pid):
        if libc.ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
            raise OSError(ctypes.get_errno(), "")
    return {
        "files": {path: _try(lambda: open(path, "rb").read(10) if not os.path.isdir(path) else os.listdir(path))
                  for path in files},
        "sockets": {path: _try(lambda: _connect(path)) for path in sockets},
        "signals": {str(pid): _try(lambda: os.kill(pid, signal.SIGCONT)) for pid in pids},
        "traces": {str(pid): _try(lambda: traced(pid)) for pid in pids},
        "environs": {str(pid): _try(lambda: open(f"/proc/{pid}/environ", "rb").read()) for pid in pids},
        "memories": {str(pid): _try(lambda: open(f"/proc/{pid}/mem", "rb")) for pid in pids},
        "descriptors": {str(pid): _try(lambda: os.listdir(f"/proc/{pid}/fd")) for pid in pids},
        "root_again": _try(lambda: os.setuid(0)),
    }

def given(*, values, files, **_):
    return {"uid": os.getuid(), "lengths": [len(each) for each in values],
            "readable": [each for each in files if os.access(each, os.R_OK)]}

def kills_all(**_):
    os.kill(-1, signal.SIGKILL)  # to all but this very process

def stubborn(*, ledger, **_):
    child = subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; sleep 300 & wait; sleep 300"])
    note(ledger, "start", child=child.pid)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def eats(**_):
    held = []
    while True:
        held.append(bytearray(8 << 20))
        time.sleep(0.005)
"""
)
JOBS = "".join(
    f'[[jobs]]\nid = "{name}"\nsteps = [{{ name = "{name}", callable = "work:{name}" }}]\n'
    for name in ("who", "awho", "attacks", "kills_all", "stubborn", "eats")
)
GIVEN = """
[[jobs]]
id = "given"
steps = [{ callable = "work:given", op_kwargs = { values = ["${file:pw}", "@ENCRYPTED@"] } }]
"""
SECRET = "the-pa55word-of-the-pool"


@pytest.fixture(scope="module")
def team() -> Iterator[pwd.struct_passwd]:
    """Make the user as whom the code runs."""
    with machine_user("nfteam") as user:
        yield user


@contextlib.contextmanager
def prepared() -> Iterator[TeamSystem]:
    """Prepare a system with one project, whose folder the team's user may read; nothing of it may be left."""
    with entered_by_all() as folder:
        made = TeamSystem(root=folder)
        made.project("team", {"plugins/work.py": CODE, "jobs.toml": JOBS})
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def system(team: pwd.struct_passwd) -> Iterator[TeamSystem]:
    """Prepare a system of a test's own."""
    with prepared() as made:
        yield made


@pytest.fixture(scope="module")
def running(team: pwd.struct_passwd) -> Iterator[TeamSystem]:
    """Start kernel and host, with secrets that are the host's alone."""
    with prepared() as made:
        project = made.root / "team"
        for name, text in {"pw": "s3cret-of-a-file", "key": new_key()}.items():
            (project / name).write_text(text)
            (project / name).chmod(0o600)
        encrypted = ring_of((project / "key").read_text(), "").encrypt("s3cret-encrypted")
        with (project / "jobs.toml").open("a") as jobs:
            jobs.write(GIVEN.replace("@ENCRYPTED@", encrypted))
        made.start_kernel()
        limits = ("cancel_grace_seconds = 0.5", "memory_mb = 200")
        made.start_host(
            "team",
            settings=[f'run_as = "{team.pw_name}"', 'secret_key_file = "key"', *limits],
            environ={"POOL_PASSWORD": SECRET},
            side=with_python_for_all(made.root),
        )
        yield made


@pytest.mark.parametrize("job", ["who", "awho"])
def test_code_runs_as_the_user_without_any_right(running: TeamSystem, team: pwd.struct_passwd, job: str) -> None:
    """Templates and workers are the user's, with the user's groups and home, and not one capability."""
    host = running.parts["team"]
    run = running.end(running.start(job))
    assert run.state == "SUCCEEDED", run
    extras = run.steps[0].attempts[-1].extras
    assert extras["uids"] == [team.pw_uid] * 3
    assert extras["gids"] == [team.pw_gid] * 3
    assert extras["groups"] == [team.pw_gid]
    assert (extras["caps"], extras["home"], extras["user"]) == (0, "/nonexistent", team.pw_name)
    assert extras["mask"] == 0o077
    assert "from a child" in running.run_log(run.run_id)
    reaper = host.oldest_below
    assert os.stat(f"/proc/{reaper}").st_uid == 0

    def others() -> set[int]:
        found = set()
        for pid in filter(is_alive, host.tree() - {reaper}):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                found.add(os.stat(f"/proc/{pid}").st_uid)
        return found

    eventually(lambda: others() == {team.pw_uid})  # one that is being made may not be the user's yet


def test_hostile_code_reaches_nothing_of_the_host(running: TeamSystem) -> None:
    """A step reads no state, environment or memory of host and kernel, signals neither, and does not reach the kernel."""
    host = running.parts["team"]
    state = running.root / "team" / ".nomaflow"
    kernel_socket = running.kernel_address.removeprefix("unix:")
    reaper = host.oldest_below
    pids = [host.pid, reaper, running.kernel.pid]
    files = [str(state), str(state / "host-team" / "instance.json"), str(running.kernel_project / ".nomaflow")]
    run = running.end(running.start("attacks", files=files, sockets=[kernel_socket], pids=pids))
    assert run.state == "SUCCEEDED", run
    tried = run.steps[0].attempts[-1].extras
    assert tried.pop("root_again") == "EPERM"
    answers = {what: set(found.values()) for what, found in tried.items()}
    assert answers == {
        "files": {"EACCES"}, "sockets": {"EACCES"}, "signals": {"EPERM"}, "traces": {"EPERM"},
        "environs": {"EACCES"}, "memories": {"EACCES"}, "descriptors": {"EACCES"},
    }  # fmt: skip
    assert all(not stat.S_IMODE(each.stat().st_mode) & 0o077 for each in (state, state / "host-team"))


def stops_a_stubborn_step(system: TeamSystem, team: pwd.struct_passwd) -> None:
    """Check that a step that swallows every exception is stopped, with its child that ignores SIGTERM elsewhere."""
    ledger = system.ledger()
    ledger.file.touch()
    os.chown(ledger.file, team.pw_uid, team.pw_gid)
    run_id = system.start("stubborn", ledger)
    (entry,) = ledger.wait_for("start")
    system.api.cancel(run_id)
    assert system.end(run_id).state == "CANCELED"
    eventually(lambda: not is_alive(entry["pid"]) and not is_alive(entry["child"]))


def test_the_host_stops_what_it_may_not_be_stopped_by(running: TeamSystem, team: pwd.struct_passwd) -> None:
    """A cancel ends a stubborn step of another user; one that uses too much memory is killed, with that reason."""
    stops_a_stubborn_step(running, team)
    run = running.end(running.start("eats"))
    assert (run.state, reason_of(run.steps[0].attempts[-1])) == ("FAILED", "memory_limit")


def test_a_secret_that_only_root_can_read_reaches_the_step_that_refers_to_it(
    running: TeamSystem, team: pwd.struct_passwd
) -> None:
    """The host reads the file and its key for the step, whose user can read neither."""
    files = [str(running.root / "team" / name) for name in ("pw", "key")]
    run = running.end(running.start("given", None, files=files))
    assert run.state == "SUCCEEDED", run
    assert run.steps[0].attempts[-1].extras == {"uid": team.pw_uid, "lengths": [16, 16], "readable": []}


def test_a_step_that_kills_everything_harms_its_own_team(running: TeamSystem) -> None:
    """A step that sends SIGKILL to all that it may reach ends its own team's processes; the host runs the next step."""
    host = running.parts["team"]
    reaper = host.oldest_below
    assert running.end(running.start("kills_all")).state == "SUCCEEDED"
    assert running.end(running.start("who")).state == "SUCCEEDED"
    assert is_alive(reaper)
    assert not host.ended
    eventually(lambda: "template of generation 1 has died" in host.log)  # noticed by the reaper, beside the next step


def refusal(system: TeamSystem, *lines: str, side: tuple[str, ...] = ()) -> str:
    """Start a host that refuses to start with exit code 78, and return what it says."""
    project = system.root / "team"
    (project / "nomaflow.toml").write_text("\n".join(["[host]", *lines, ""]))
    host = launch("nomaflow_host", project, log_file=system.root / "refused.log", side=side)
    eventually(lambda: host.ended)
    assert host.process.returncode == 78, host.log
    return host.log


def test_a_host_that_cannot_keep_its_promise_does_not_start(system: TeamSystem, team: pwd.struct_passwd) -> None:
    """Exit 78, with the reason and the way out, for a wrong user, too few rights, and files that do not fit the user."""
    name, project = team.pw_name, system.root / "team"
    line = f'run_as = "{name}"'
    assert "there is no user 'nobody-at-all'" in refusal(system, 'run_as = "nobody-at-all"')
    assert "must not run as root" in refusal(system, 'run_as = "root"')
    side = with_python_for_all(system.root)
    assert "negative niceness" in refusal(system, line, "nice = -5", side=side)
    need("setpriv")
    said = refusal(system, line, side=(*side, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"))
    assert "lacks CAP_KILL, CAP_SETGID, CAP_SETUID" in said
    assert "AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL" in said
    (project / "plugins").chmod(0o700)
    assert f"the user {name!r} cannot read '{project / 'plugins'}'" in refusal(system, line, side=side)
    (project / "plugins").chmod(0o755)
    os.chown(project / "plugins", team.pw_uid, team.pw_gid)
    assert f"may change '{project / 'plugins'}'" in refusal(system, line, side=side)
    os.chown(project / "plugins", 0, 0)
    elsewhere = system.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "connectors.toml").write_text("")
    os.chown(elsewhere, team.pw_uid, team.pw_gid)
    (project / "connectors.toml").symlink_to(elsewhere / "connectors.toml")
    assert f"may change '{elsewhere}'" in refusal(system, line, side=side)


def test_a_host_with_three_capabilities_is_enough(system: TeamSystem, team: pwd.struct_passwd) -> None:
    """A host that is not root, with the three capabilities of the message, runs and stops the code of another user."""
    need("setpriv")
    with machine_user("nfhost") as owner:
        system.start_kernel()
        project = system.root / "team"
        os.chown(project, owner.pw_uid, owner.pw_gid)
        for path in (system.kernel_project / ".nomaflow", *(system.kernel_project / ".nomaflow").rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        caps = "+setuid,+setgid,+kill"
        side = (
            *with_python_for_all(system.root),
            "setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups",
            "--inh-caps", caps, "--ambient-caps", caps,
        )  # fmt: skip
        system.start_host("team", settings=[f'run_as = "{team.pw_name}"', "cancel_grace_seconds = 0.5"], side=side)
        run = system.end(system.start("who"))
        assert run.state == "SUCCEEDED", run
        extras = run.steps[0].attempts[-1].extras
        assert (extras["uids"], extras["caps"]) == ([team.pw_uid] * 3, 0)
        stops_a_stubborn_step(system, team)
        system.parts["team"].stop()
