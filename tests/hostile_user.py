"""A user of the machine, made for a test and removed after it; and a folder that such users may enter."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine_parts import need
from real_system import eventually

__all__ = ["entered_by_all", "machine_user", "with_python_for_all"]

_ANYWHERE = """
set -e
mount --bind "$1" "$3"
mount -t tmpfs -o mode=755 none "$2"
mkdir -p "$1"
mount --bind "$3" "$1"
shift 3
exec "$@"
"""


@contextmanager
def machine_user(name: str) -> Iterator[pwd.struct_passwd]:
    """Make a user without rights; at the end kill the user's processes and remove the user.

    :param name: beginning of the user's name
    """
    need("useradd", root=True)
    full = f"{name}{os.getpid()}"
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", full]
    eventually(lambda: subprocess.run(command, capture_output=True, check=False).returncode in (0, 9))
    try:
        yield pwd.getpwnam(full)
    finally:
        subprocess.run(["pkill", "-KILL", "-U", full], check=False)
        eventually(lambda: subprocess.run(["userdel", full], capture_output=True, check=False).returncode in (0, 6))


@contextmanager
def entered_by_all() -> Iterator[Path]:
    """Make a folder that every user may enter, unlike those of pytest, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nomaflow-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def with_python_for_all(folder: Path) -> tuple[str, ...]:
    """Return the command that starts another where every user can run this interpreter.

    It is empty unless the interpreter is below a folder, such as root's home, that only its owner may enter; then it
    makes a namespace of mounts in which the interpreter is alone there.

    :param folder: that all may enter
    """
    python = Path(sys.base_prefix).resolve()
    closed = [each for each in reversed(python.parents) if not each.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ()
    need("unshare", namespaces=True)
    held = folder / "python"
    held.mkdir(exist_ok=True)
    return ("unshare", "--mount", "sh", "-c", _ANYWHERE, "sh", str(python), str(closed[0]), str(held))
