"""The user as which templates and workers run, and how a process becomes that user for good."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nomaflow_host.reaper.proc import drop_ambient_capabilities

_STICKY_FOR_ALL = 0o1777


class OtherUser(NamedTuple):
    """A user of this machine.

    :param groups: all of the user's groups, the first one included
    """

    name: str
    uid: int
    gid: int
    groups: Sequence[int]
    home: str
    shell: str

    @classmethod
    def named(cls, name: str) -> OtherUser:
        """Return the user of that name.

        :raises KeyError: if there is none
        """
        found = pwd.getpwnam(name)
        return cls(
            name=found.pw_name,
            uid=found.pw_uid,
            gid=found.pw_gid,
            groups=os.getgrouplist(found.pw_name, found.pw_gid),
            home=found.pw_dir,
            shell=found.pw_shell,
        )

    def environ(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return an environment for the user's processes: *inherited*, with the user's own home and names.

        TMPDIR is left out unless everybody may write there.
        """
        own = {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}
        environ = {**inherited, **own}
        folder = environ.get("TMPDIR")
        if folder is not None and not _is_for_all(folder):
            del environ["TMPDIR"]
        return environ

    def take_on(self) -> None:
        """Make this process the user's. Groups first and the user last, since that ends the rights to do so.

        :raises OSError: if this process lacks the right
        """
        drop_ambient_capabilities()
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def own(self, *descriptors: int) -> None:
        """Give the user the pipes of a process, so that its children may open ``/dev/stdout``, as far as possible."""
        for fd in descriptors:
            with contextlib.suppress(OSError):
                os.fchown(fd, self.uid, self.gid)


def _is_for_all(folder: str) -> bool:
    try:
        return os.stat(folder).st_mode & _STICKY_FOR_ALL == _STICKY_FOR_ALL
    except OSError:
        return False
