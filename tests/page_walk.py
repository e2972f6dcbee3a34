"""Follows a page: writes the files that it shows, runs its commands as those whose prompts they have, and compares.

A block of TOML names its file in the first line. In a block of ``console``, a line is a command if it begins with a
prompt, ``# `` for root, ``$ `` or ``NAME$ ``; other lines are what the command prints, with ``…`` for anything. A
command whose output begins with ``✘`` is to fail. Kernels, hosts and ``up`` are left running.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli_command import run_as_given
from real_system import eventually

__all__ = ["Walk", "section_of"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"(?:(?P<name>[a-z]*)\$|(?P<root>#)) (?P<command>.+)")
_NEEDS_NO_SHELL = re.compile(r"nomaflow [^|&;<>$`*?~\\#(){}!]+")
"""A command of ours that a shell would only split into words: it is forked from where its modules are imported."""
_STAYS = re.compile(r"nomaflow (up|kernel|host) (?!.*forget)")
_READY = {"up": "Ctrl", "kernel": "serving on", "host": "introduced manifest"}
_SCP = '#!/bin/sh\nexec cp "$1" "${2#*:}"\n'


def section_of(page: Path, title: str) -> str:
    """Return the part of a page below a heading, up to the next one of that level."""
    level = title.partition(" ")[0]
    _, _, rest = page.read_text(encoding="utf-8").partition(f"\n{title}\n")
    assert rest, f"{page} has no {title!r}"
    return re.split(rf"^{level} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


@dataclass(kw_only=True)
class Walk:
    """One walk through a page.

    :param folder: stands for the machine's root: ``/srv`` and ``/home`` are in it
    :param users: name on the page → Unix user; all are the user of the test if it is empty
    :param names: words of the page → what they are here
    :param entering: the command that starts another where every user can run Python
    """

    folder: Path
    users: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    entering: Sequence[str] = ()
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _at: dict[str, Path] = field(default_factory=dict)

    def follow(self, text: str) -> int:
        """Do what a part of a page says, in order; return how many commands that were."""
        done = 0
        for language, block in _FENCE.findall(text):
            if language == "toml":
                self._write(block)
            elif language == "console":
                for who, command, expected in _commands(block):
                    self._do(who, self._here(command), expected)
                    done += 1
        return done

    def close(self) -> None:
        """Stop what was started, the last first."""
        for process in reversed(self.running):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(self.running):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _here(self, text: str) -> str:
        for there, here in self.names.items():
            text = text.replace(there, here)
        return re.sub(r"(?<![\w.])/(srv|home)\b", rf"{self.folder}/\1", text)

    def _write(self, block: str) -> None:
        path = Path(self._here(block.partition("\n")[0].removeprefix("# ")))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(block), encoding="utf-8")

    def _do(self, who: str, command: str, expected: Sequence[str]) -> None:
        if command.startswith("cd "):
            self._at[who] = self._home(who) / command.removeprefix("cd ").strip()
            return
        if who == "root":
            command = re.sub(r"(?<=-o )(\w+)", lambda found: self.users[found[1]], command)
        stays = _STAYS.match(command)
        if stays is not None:
            self._start(who, command, _READY[stays[1]])
            return
        code, printed = self._run(who, command)
        fails = any(line.startswith("✘") for line in expected)
        assert (code != 0) is fails, f"{who}$ {command}\nexit code {code}\n{printed}"
        for line in expected:
            pattern = re.escape(line.strip()).replace("…", ".*")
            assert re.search(pattern, printed), f"{who}$ {command}\nprints no {line!r}:\n{printed}"

    def _run(self, who: str, command: str) -> tuple[int, str]:
        """Run a command to its end, and return its exit code and what it prints."""
        environ, folder = self._place(who)
        if who not in self.users and _NEEDS_NO_SHELL.fullmatch(command):
            answer = run_as_given(*shlex.split(command)[1:], folder=folder, env=environ)
            return answer.code, f"{answer.out}{answer.err}"
        done = subprocess.run(
            self._as(who, command),
            env=environ, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, f"{done.stdout}{done.stderr}"

    def _start(self, who: str, command: str, ready: str) -> None:
        log = self.folder / f"{len(self.running)}.log"
        environ, folder = self._place(who)
        with log.open("wb") as out:
            process = subprocess.Popen(
                self._as(who, f"exec {command}"),
                env=environ, cwd=folder, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)

        def answered() -> bool:
            assert process.poll() is None, f"{who}$ {command}\n{log.read_text()}"
            return ready in log.read_text()

        eventually(answered, seconds=60)

    def _as(self, who: str, command: str) -> list[str]:
        shell = ["bash", "-c", command]
        user = self.users.get(who)
        if user is None:
            return shell
        return [*self.entering, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *shell]

    def _home(self, who: str) -> Path:
        home = self.folder / "home" / (who or "me")
        if not home.exists():
            home.mkdir(parents=True)
            if who in self.users:
                subprocess.run(["chown", f"{self.users[who]}:", home], check=True)
        return home

    def _place(self, who: str) -> tuple[dict[str, str], Path]:
        tools = self.folder / "bin"
        if not tools.exists():
            tools.mkdir()
            (tools / "scp").write_text(_SCP)
            (tools / "scp").chmod(0o755)
        home = self._home(who)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NOMAFLOW_", "XDG_")) and name not in ("COLUMNS", "FORCE_COLOR")
        }
        path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
        return {**kept, "PATH": path, "HOME": str(home)}, self._at.get(who, home)


def _commands(block: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield who gives each command of a block, the command, and the lines that it prints."""
    who, command, expected = "", "", list[str]()
    for line in block.splitlines():
        found = _PROMPT.fullmatch(line)
        if found is None:
            expected.append(line)
            continue
        if command:
            yield who, command, expected
        who, command, expected = "root" if found["root"] else found["name"], found["command"], []
    yield who, command, expected
