"""``nomaflow login`` and ``logout``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from nomaflow.client import ClientError, Profile, ProfileFolder
from nomaflow.client.profiles import DEFAULT_PROFILE
from nomaflow_api.join_string import JoinString, JoinStringError, certificates_in
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.invocation import Invocation, ProfileOption, local_command
from nomaflow_cli.kernel_access import client_failure, quiet_grpc
from nomaflow_cli.options import argument
from nomaflow_cli.output import answer
from nomaflow_telemetry.visible_text import printable

_CREATE = "on the kernel's machine: nomaflow token create --user NAME --role ROLE"


@local_command("login")
def login(
    *,
    invocation: Invocation,
    file: str = argument("The file with the join string; - is standard input.", metavar="FILE"),
    profile: ProfileOption = "",
) -> None:
    """Log in to a kernel on TCP with a join string.

    The token is kept in a profile.
    """
    folder, name = ProfileFolder.of(os.environ), profile or DEFAULT_PROFILE
    join = _read(file)
    try:
        path = folder.path(name)
        folder.make()  # a string must not be used up for a token that cannot be kept
        before = folder.read(name) if path.exists() else None
        if before is not None and not _same_authorities(before, join):
            raise _other_kernel(before)
        with quiet_grpc():
            from nomaflow.client.enrolment import enrol
        enrolled = asyncio.run(enrol(join))
    except ClientError as error:
        raise client_failure(error) from None
    except OSError as error:
        raise _unwritable(path, error, "was not used") from None
    if before is not None and before.kernel_id != enrolled.kernel_id:
        raise _other_kernel(before, "; the join string is used up")
    kept = Profile(
        name=name,
        principal=enrolled.name,
        addresses=enrolled.addresses,
        authorities_pem=enrolled.authorities_pem,
        kernel_id=enrolled.kernel_id,
        token=enrolled.token,
    )
    try:
        folder.write(kept)
    except OSError as error:
        raise _unwritable(path, error, "is used up", f", and ask for another string, {_CREATE}") from None
    shape = {"profile": name, "principal": kept.principal, "addresses": list(kept.addresses), "file": str(path)}
    answer(invocation, shape, printable(f"logged in to {kept.address} as {kept.principal}; profile {name!r} in {path}"))


@local_command("logout")
def logout(*, invocation: Invocation, profile: ProfileOption = "") -> None:
    """Remove a login from this machine."""
    folder, name = ProfileFolder.of(os.environ), profile or DEFAULT_PROFILE
    whose = ""
    with contextlib.suppress(ClientError):  # one that is damaged can be removed, too
        whose = folder.read(name).principal
    try:
        folder.remove(name)
    except ClientError as error:
        raise client_failure(error) from None
    except OSError as error:
        raise CliError(f"the profile cannot be removed: {error.strerror}", reason="UNWRITABLE") from None
    text = (
        f"removed profile {name!r}; its token works until it expires. To withdraw it, an administrator looks for its id"
        f" with `nomaflow token list{f' --name {whose}' if whose else ''}`, and runs: nomaflow token revoke ID"
    )
    answer(invocation, {"profile": name, "removed": True}, printable(text))


def _unwritable(path: Path, error: OSError, then: str, also: str = "") -> CliError:
    return CliError(
        f"the profile {str(path)!r} cannot be written: {error.strerror}; the join string {then}",
        reason="UNWRITABLE",
        fix=f"make the directory writable{also}",
        exit_code=ExitCode.FAILED,
    )


def _read(file: str) -> JoinString:
    """Return the join string in a file.

    :raises CliError: if there is none, or it is for a host
    """
    try:
        join = JoinString.read(file)
    except OSError as error:
        raise CliError(
            f"the file {file!r} cannot be read: {error.strerror}",
            reason="FILE_UNUSABLE",
            fix="name a file that you may read; - is standard input",
        ) from None
    except JoinStringError as error:
        raise CliError(str(error), reason="BAD_JOIN_STRING", fix=_CREATE) from None
    if join.kind == "host":
        raise CliError(
            f"this join string is for host {join.name!r}, not for a person or a program",
            reason="BAD_JOIN_STRING",
            fix="give it to: nomaflow host DIR --join FILE",
        )
    return join


def _same_authorities(before: Profile, join: JoinString) -> bool:
    """Return whether a profile knows all of a string's authorities; none are those that the system knows.

    The profile may have more: of a replaced authority, a string has the new one only.
    """
    known, given = certificates_in(before.authorities_pem), certificates_in(join.authorities_pem)
    return given <= known if given else not known


def _other_kernel(before: Profile, then: str = "") -> CliError:
    """Return the error of a login that would replace one at another kernel: nobody loses a login by mistake."""
    return CliError(
        f"profile {before.name!r} is a login at another kernel, {before.address}{then}",
        reason="ALREADY_THERE",
        fix=f"name another: --profile NAME; or remove that one: nomaflow logout --profile {before.name}",
    )
