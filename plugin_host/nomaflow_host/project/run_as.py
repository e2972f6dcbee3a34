"""``[host] run_as`` and ``nice``: whether this process may run the project's code so, and whether that protects."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nomaflow_host.process.errors import ProjectError
from nomaflow_host.project.project import Project
from nomaflow_host.reaper.other_user import OtherUser
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.problems import Place

_NEEDED = {5: "CAP_KILL", 6: "CAP_SETGID", 7: "CAP_SETUID"}  # include/uapi/linux/capability.h
_JOBS = "jobs.toml"
_PROBE_SECONDS = 20.0
_PROBE = """
import os, sys
at = sys.argv.index("--")
for path in sys.argv[1:at]:
    if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
        sys.exit("R" + path)
for path in sys.argv[at + 1:]:
    if os.access(path, os.W_OK):
        sys.exit("W" + path)
"""


def user_of(project: Project) -> OtherUser | None:
    """Return the user that ``[host] run_as`` names; None if it names none, or this process is that user's.

    :raises ProjectError: if there is no such user, this process may not start processes as that user, the user cannot
        read the project's code, or could change what this process reads
    """
    name = project.settings.run_as
    if not name:
        return None
    try:
        user = OtherUser.named(name)
    except KeyError:
        raise _refused(project, f"there is no user {name!r}", "correct the name, or create the user") from None
    if user.uid == 0:
        raise _refused(project, "the project's code must not run as root", "name a user without rights of its own")
    if user.uid == os.geteuid():
        return None
    if lacks := _lacking():
        fix = (
            "start the host as root, or give its service AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL; "
            "or remove run_as and start the host as that user"
        )
        raise _refused(project, f"this process may not start processes as {name!r}: it lacks {lacks}", fix)
    _probe(project, user)
    return user


def check_niceness(project: Project, user: OtherUser | None) -> None:
    """Check that workers may have the niceness that ``[host] nice`` gives them.

    :param user: whose processes they are; None for this process's own user
    :raises ProjectError: if they may not
    """
    nice = project.settings.nice or 0
    if nice >= 0:
        return
    who = "this process" if user is None else f"the user {user.name!r}"
    if user is None:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, max(before + nice, -20))
            os.setpriority(os.PRIO_PROCESS, 0, before)
            return
    problem = Place(SETTINGS_FILE, "host.nice").error(
        "bad_user", f"{who} may not have a negative niceness", fix="remove nice, or give the service CAP_SYS_NICE"
    )
    raise ProjectError(problem, folder=project.root)


def _lacking() -> str:
    with open("/proc/self/status", encoding="ascii") as file:
        held = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    return ", ".join(name for bit, name in _NEEDED.items() if not held >> bit & 1)


def _probe(project: Project, user: OtherUser) -> None:
    """Ask the system, in a process of the user, what the user may read and write.

    :raises ProjectError: if that is too little, or too much
    """
    readable = (str(Path(__file__).parent), str(project.root), *project.spec.plugin_dirs)
    command = [sys.executable, "-I", "-S", "-c", _PROBE, *readable, "--", *map(str, _read_by_main(project))]
    try:
        done = subprocess.run(
            command,
            user=user.uid,
            group=user.gid,
            extra_groups=user.groups,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(getattr(error, "strerror", None) or "it takes too long").lower()
        problem = f"the user {user.name!r} cannot run {sys.executable!r}: {reason}"
        raise _refused(project, problem, "install Python and nomaflow where that user can read them") from None
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return
    path = said[1:]
    if said.startswith("R"):
        fix = "let that user read it and enter the folders above it, as with chmod o+rx"
        raise _refused(project, f"the user {user.name!r} cannot read {path!r}", fix)
    if said.startswith("W"):
        fix = "give the file to the host's own user, and let others only read it; or start the host as that user"
        why = f"the user {user.name!r} may change {path!r}, which the host reads with its own rights"
        raise _refused(project, why, fix)
    raise _refused(project, f"{sys.executable!r} does not run as {user.name!r}: {said[-200:]}", "install it readably")


def _read_by_main(project: Project) -> Iterable[Path]:
    """Yield what the host's main process reads, and the folders above it, including those that links lead to.

    Anyone who could change any of it could read files and run code with its rights.
    """
    settings = project.spec.settings
    read = [project.root, project.root / SETTINGS_FILE]
    read += [Path(settings[section]["config_path"]) for section in ("connectors", "jobs")]
    read += map(Path, project.spec.env_files)
    for plugins in map(Path, project.spec.plugin_dirs):
        read += [
            plugins,
            *(path for each in sorted(plugins.iterdir()) if each.is_dir() for path in (each, each / _JOBS)),
        ]
    yield from read
    above = {parent for path in read for parent in (*path.parents, *path.resolve().parents)}
    # In a folder such as /tmp, nobody may replace what belongs to another.
    yield from (each for each in sorted(above - set(read)) if each.exists() and not each.stat().st_mode & stat.S_ISVTX)


def _refused(project: Project, problem: str, fix: str) -> ProjectError:
    told = Place(SETTINGS_FILE, "host.run_as").error("bad_user", problem, fix=fix)
    return ProjectError(told, folder=project.root)
