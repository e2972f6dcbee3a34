"""Profiles: what `nomaflow login` keeps of a kernel, in the user's configuration directory. Loads no gRPC."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nomaflow.client.errors import Unauthenticated
from nomaflow_api.private_file import mode_open_to_others, write_private
from nomaflow_project.reading.regular_files import reason_of

DEFAULT_PROFILE = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AGAIN = "log in again: nomaflow login FILE"


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A kernel that a person has logged in to, and what to show it.

    :param name: the profile's own
    :param principal: the user's or service's name at that kernel
    :param addresses: of the clients' door, ``tls://HOST:PORT`` each
    :param authorities_pem: those that vouch for the kernel, PEM; empty if the system knows them
    :param kernel_id: the random id of the kernel's history
    """

    name: str
    principal: str
    addresses: tuple[str, ...]
    authorities_pem: str
    kernel_id: str
    token: str = field(repr=False)

    @property
    def address(self) -> str:
        """The addresses, separated by commas."""
        return ",".join(self.addresses)

    @property
    def ca(self) -> bytes | None:
        """The authorities, as a client takes them."""
        return self.authorities_pem.encode() or None


class ProfileFolder:
    """The profiles of one user: a private directory, with a file for each.

    :param folder: need not exist
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ProfileFolder:
        """Return the one in the user's configuration directory."""
        return cls(configuration_directory(environ) / "nomaflow")

    def path(self, name: str) -> Path:
        """Return the file of a profile.

        :raises Unauthenticated: if that is not a profile's name
        """
        if not _NAME.fullmatch(name):
            raise Unauthenticated(
                f"{name[:80]!r} is not a profile's name",
                reason="NO_PROFILE",
                fix="expected letters, digits, '.', '-' and '_', at most 64, such as 'production'",
            )
        return self._folder / f"{name}.json"

    def names(self) -> tuple[str, ...]:
        """Return the names of all profiles, sorted."""
        try:
            found = [each.stem for each in self._folder.iterdir() if each.suffix == ".json"]
        except OSError:
            return ()
        return tuple(sorted(name for name in found if _NAME.fullmatch(name)))

    def read(self, name: str) -> Profile:
        """Return a profile.

        :raises Unauthenticated: if there is none, it cannot be read, or others can read it
        """
        path = self.path(name)
        try:
            mode = mode_open_to_others(path)
            tree: dict[str, Any] = json.loads(path.read_bytes())
            profile = Profile(
                name=name,
                addresses=tuple(map(str, tree["addresses"])),
                **{key: str(tree[key]) for key in ("principal", "authorities_pem", "kernel_id", "token")},
            )
        except FileNotFoundError:
            known = ", ".join(self.names())
            raise Unauthenticated(
                f"there is no profile {name!r}",
                reason="NO_PROFILE",
                fix=f"there is {known}" if known else "log in with a join string: nomaflow login FILE",
            ) from None
        except OSError as error:
            raise Unauthenticated(f"cannot read the profile {str(path)!r}: {reason_of(error)}", fix=_AGAIN) from None
        except (ValueError, KeyError, TypeError):
            raise Unauthenticated(f"the profile {str(path)!r} is damaged", fix=_AGAIN) from None
        if mode:
            raise Unauthenticated(
                f"the profile {str(path)!r} holds a token and is open to others (mode {mode})",
                fix=f"chmod 600 {shlex.quote(str(path))}, and log in again if others may have read it",
            )
        return profile

    def all(self) -> tuple[Profile, ...]:
        """Return the profiles that can be read.

        :raises Unauthenticated: if there are some and none can be read; it says why the first cannot
        """
        found, unreadable = [], []
        for name in self.names():
            try:
                found.append(self.read(name))
            except Unauthenticated as error:
                unreadable.append(error)
        if unreadable and not found:
            raise unreadable[0]
        return tuple(found)

    def make(self) -> None:
        """Make the directory, if there is none, and let nobody else in.

        :raises OSError: if no profile can be kept there
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)

    def write(self, profile: Profile) -> Path:
        """Keep a profile in place of one of the same name, and return its file.

        :raises OSError: if it cannot be written; the previous one is still there then
        """
        path = self.path(profile.name)
        self.make()
        tree = asdict(profile)
        del tree["name"]
        write_private(path, json.dumps(tree, indent=1).encode())
        return path

    def remove(self, name: str) -> None:
        """Remove a profile.

        :raises Unauthenticated: if there is none
        :raises OSError: if it cannot be removed
        """
        try:
            self.path(name).unlink()
        except FileNotFoundError:
            self.read(name)  # says that there is none


def configuration_directory(environ: Mapping[str, str]) -> Path:
    """Return ``$XDG_CONFIG_HOME``, by default ``~/.config``; always absolute."""
    given = environ.get("XDG_CONFIG_HOME", "")
    # As the specification of those directories says, a relative path does not count.
    return Path(given) if given.startswith("/") else Path(environ.get("HOME") or _home()) / ".config"


def _home() -> str:
    """Return the user's home. A container's user may be in no list of users, and then has no home."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"
