"""Two kernels with doors on TCP, a host that has joined one of them, and a person who has logged in there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair_system import Pair

from cli_command import Answer, run_command
from real_system import eventually, free_ports, launch_up

UNNAMED = ("--advertise", "")
"""A kernel that names no addresses."""


class JoinedPair(Pair):
    """Kernels "a" and "b" with one authority.

    :param doors: the clients' door of each
    """

    def __init__(self, **doors: str) -> None:
        super().__init__()
        self.doors = doors
        self.home = self.folder / "home"
        self.home.mkdir()

    def start(self, name: str, *flags: str) -> None:
        """Start a kernel that names both unless told otherwise, and wait until it listens, leading or not."""
        flags = flags or ("--advertise", ",".join(self.doors.values()))
        self.start_kernel(name, "--address", f"unix:,{self.doors[name]}", *flags)

    def begin(self, *flags: str) -> None:
        """Start "a", have the host join and a person log in, and give "b" the authority."""
        self.start("a", *flags)
        eventually(lambda: self.terms("a"))
        shutil.copytree(self.folder / "a" / ".nomaflow" / "pki", self.folder / "b" / ".nomaflow" / "pki")
        self.run_host("--join", str(self.join_file("--host", "team")))
        self.await_host(1)
        self.log_in()

    def log_in(self) -> None:
        """Have a person log in with a string of "a"."""
        login = self.at_home("login", str(self.join_file("--user", "ann", "--role", "operator")))
        assert login.code == 0, login

    def join_file(self, *words: str) -> Path:
        """Return a file with a join string that the owner of kernel "a" has made."""
        file = self.folder / "joining"
        made = run_command("token", "create", *words, "--join", "--project", str(self.folder / "a"), folder=self.folder)
        assert made.code == 0, made
        file.touch(mode=0o600)
        file.write_text(made.out)
        return file

    def at_home(self, *words: str, stdin: str = "") -> Answer:
        """Run the command as somebody who is at home nowhere near a kernel."""
        return run_command(*words, folder=self.home, stdin=stdin, environ={"XDG_CONFIG_HOME": str(self.home)})


@pytest.fixture
def pair() -> Iterator[JoinedPair]:
    """Start "a" on 127.0.0.1, which leads, and "b" on 127.0.0.2, with the same ports."""
    port = free_ports(3)
    made = JoinedPair(a=f"tls://127.0.0.1:{port}", b=f"tls://127.0.0.2:{port}")
    try:
        made.begin()
        made.start("b")
        yield made
    finally:
        made.close()


@pytest.fixture
def lone() -> Iterator[JoinedPair]:
    """Start "a", which names no addresses; there is room for "b" on the same machine, at other ports."""
    port = free_ports(6)
    made = JoinedPair(a=f"tls://127.0.0.1:{port}", b=f"tls://127.0.0.1:{port + 3}")
    try:
        made.begin(*UNNAMED)
        yield made
    finally:
        made.close()


def test_those_who_have_joined_one_kernel_find_the_other(pair: JoinedPair) -> None:
    """Host and login work with the kernel that takes over, whose owner is told that it stands by as long as it does.

    Commands end at once and name the leader, the doctor only warns, and ``up`` waits until its own kernel leads.
    """
    project, leads = pair.folder / "b", f"is the leader at {pair.doors['a']}"
    listed = run_command("hosts", "--project", str(project), folder=pair.folder)
    assert (listed.code, leads in listed.err) == (5, True), listed
    found = run_command("doctor", str(project), "-o", "json", folder=pair.folder).json["findings"]
    assert [(each["level"], leads in each["message"]) for each in found if "kernel." in each["check"]][-1:] == [
        ("warning", True)
    ]
    pair.stop("b")
    advertise = ",".join(pair.doors.values())
    settings = {"store": pair.server.url("pair"), "advertise": advertise, "leader_ttl_seconds": 6}
    (project / "nomaflow.toml").write_text(
        "[kernel]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    )
    flags = ("--address", pair.doors["b"], "--no-console", "-o", "json")
    up = pair.processes["up"] = launch_up(project, *flags, log_file=pair.folder / "up.log")
    eventually(lambda: '"type":"stands_by"' in pair.log("up") or up.ended)
    assert leads in pair.log("up"), pair.log("up")
    pair.kill("a")
    [ready] = eventually(lambda: [line for line in pair.log("up").splitlines() if '"type":"ready"' in line])
    assert json.loads(ready)["address"] == pair.address("b")  # the owner's socket, which is always there
    pair.await_host(2)
    ran = pair.at_home("run", "quick", "-p", f"ledger={pair.ledger}", "--wait")
    assert (ran.code, [what for what, _, _ in pair.entries()]) == (0, ["start", "end"]), ran
    assert pair.at_home("runs", "--address", pair.doors["b"]).code == 0
    pair.start("a")
    for door in pair.doors.values():
        listed = pair.at_home("runs", "--address", door)
        assert (listed.code, "quick" in listed.out) == (0, True), (door, listed)
    assert pair.stop("up") == 0, pair.log("up")
    assert not (project / ".nomaflow" / "console.log").exists()  # as its option says


def test_a_host_that_has_joined_learns_of_a_kernel_that_is_added(lone: JoinedPair) -> None:
    """The first kernel tells it at its next start; the host finds the other one, also after a start of its own."""
    places = [door.rpartition(":") for door in lone.doors.values()]
    hosts = [f"{place}:{int(port) + 1}" for place, _, port in places]
    named = ("--advertise", ",".join(lone.doors.values()), "--advertise-hosts", ",".join(hosts))
    lone.stop("a")
    lone.start("a", *named)
    lone.await_host(2)
    lone.start("b", *named)
    lone.log_in()
    lone.kill("a")
    lone.await_host(3)
    lone.stop("host")
    lone.run_host()
    lone.await_host(4)
    ran = lone.at_home("run", "quick", "-p", f"ledger={lone.ledger}", "--wait")
    assert (ran.code, [what for what, _, _ in lone.entries()]) == (0, ["start", "end"]), ran
    lone.stop("b")
    lone.start("b", *UNNAMED)
    lone.await_host(5)
    identity = lone.folder / "team" / ".nomaflow" / "identity.json"
    assert json.loads(identity.read_bytes())["addresses"] == hosts
