"""Two kernels with doors on TCP, a host that has joined one of them, and a person who has logged in there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pair_system import Pair

from cli_command import Answer, run_command
from real_system import eventually, free_ports, launch


class JoinedPair(Pair):
    """Kernels "a" on 127.0.0.1 and "b" on 127.0.0.2, with the same ports and one authority; each names both."""

    def __init__(self) -> None:
        super().__init__()
        port = free_ports(3)
        self.doors = {"a": f"tls://127.0.0.1:{port}", "b": f"tls://127.0.0.2:{port}"}
        self.home = self.folder / "home"
        self.home.mkdir()

    def start(self, name: str) -> None:
        """Start a kernel and wait until it listens, leading or not."""
        self.start_kernel(name, "--address", f"unix:,{self.doors[name]}", "--advertise", ",".join(self.doors.values()))

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
    """Start "a", which leads, and "b"; have the host join and a person log in with strings of "a"."""
    made = JoinedPair()
    try:
        made.start("a")
        eventually(lambda: made.terms("a"))
        shutil.copytree(made.folder / "a" / ".nomaflow" / "pki", made.folder / "b" / ".nomaflow" / "pki")
        made.start("b")
        string = made.join_file("--host", "team")
        made.processes["host"] = launch(
            "nomaflow_host", made.folder / "team", "--join", str(string), log_file=made.folder / "host.log"
        )
        made.await_host(1)
        login = made.at_home("login", str(made.join_file("--user", "ann", "--role", "operator")))
        assert login.code == 0, login
        yield made
    finally:
        made.close()


def test_those_who_have_joined_one_kernel_find_the_other(pair: JoinedPair) -> None:
    """The host works for the kernel that takes over, and the login reaches it by either address, and by both."""
    pair.kill("a")
    pair.await_host(2)
    ran = pair.at_home("run", "quick", "-p", f"ledger={pair.ledger}", "--wait")
    assert (ran.code, [what for what, _, _ in pair.entries()]) == (0, ["start", "end"]), ran
    assert pair.at_home("runs", "--address", pair.doors["b"]).code == 0
    pair.start("a")
    for door in pair.doors.values():
        listed = pair.at_home("runs", "--address", door)
        assert (listed.code, "quick" in listed.out) == (0, True), (door, listed)
