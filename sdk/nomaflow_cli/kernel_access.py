"""Connects a command to a kernel, and translates the client's errors into the command's."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import getpass
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nomaflow.client import (
    AddressSource,
    ClientError,
    FixedAddress,
    KernelFailed,
    KernelUnreachable,
    Profile,
    ProfileFolder,
    ProjectAddress,
    read_token,
)
from nomaflow_api.addresses import TLS_SCHEME, has_known_form, is_tcp, split_addresses
from nomaflow_api.near_names import near_name
from nomaflow_cli.errors import CliError
from nomaflow_cli.exit_codes import ExitCode
from nomaflow_cli.joined_host import JoinedHost
from nomaflow_cli.project import host_table, project_of
from nomaflow_telemetry.tracing import trace_globally

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow_cli.invocation import Invocation

_LOGIN = (
    "log in: `nomaflow token create --user NAME --role ROLE` on the kernel's machine, then here: nomaflow login FILE"
)
_LOOK_SECONDS = 3.0
_RUN_IDS = "give the id of a run; nomaflow runs lists them, and nomaflow runs JOB those of a job"

R = TypeVar("R")


class NoLogin(CliError):
    """Raised where a person has no credential for the kernel that a project's host has joined."""


def talk(
    invocation: Invocation,
    conversation: Callable[[KernelClient], Awaitable[R]],
    *,
    retry_seconds: float = 10.0,
    on_connected: Callable[[bool], None] | None = None,
) -> R:
    """Call the kernel and return the result. If no kernel answers within half a second, none runs.

    :param retry_seconds: time to wait for a kernel that answered and then went away
    :raises CliError: with message, reason and exit code of the error
    """

    async def connected() -> R:
        trace_globally("nomaflow-cli", os.environ)
        source, ca = _way_to_kernel(invocation)
        client = kernel_client(
            source,
            ca=ca,
            by=caller_name(),
            connect_seconds=0.5,
            retry_seconds=retry_seconds,
            on_connected=on_connected,
        )
        async with client:
            return await conversation(client)

    try:
        return asyncio.run(connected())
    except ClientError as error:
        raise client_failure(error) from None


@asynccontextmanager
async def telling_trouble(kernel: KernelClient, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Have *say* called with what keeps the kernel from working, and with an empty text once it works again.

    What waits meanwhile is a trigger that is sent again and again, or a run that does not start.
    """
    task = asyncio.create_task(_tell_trouble(kernel, say))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def _tell_trouble(kernel: KernelClient, say: Callable[[str], None]) -> None:
    told = ""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        with contextlib.suppress(ClientError):  # the caller's own call meets it too
            trouble = (await kernel.get_kernel()).trouble
            if trouble != told:
                told = trouble
                say(trouble)


async def why_none(kernel: KernelClient, things: str, otherwise: str) -> str:
    """Return what an empty list means: that there are none that the caller may see, unless it may see everything.

    :param otherwise: the text for a caller that may
    """
    caller = (await kernel.get_kernel()).caller
    if caller is None or caller.may("read"):
        return otherwise
    return f"there are no {things} that you may see; an administrator gives grants with: nomaflow token create"


async def similar_caller(kernel: KernelClient, name: str) -> str:
    """Return a question after a filter by a name found nothing, if somebody of a similar name did something lately.

    Who has done nothing so far may be a caller all the same, so an unknown name is no error.
    """
    acts = (await kernel.list_events(acts=True, page_size=500)).events if name else ()
    return similar(name, {each for act in acts for each in act.by.removesuffix(")").split(" (for ")})


def similar(name: str, known: Collection[str]) -> str:
    """Return the question whether a similar name was meant; empty if the name is known, or none is near."""
    near = near_name(name, known) if name not in known else ""
    return f"; did you mean {near!r}?" if near else ""


def client_failure(error: ClientError) -> CliError:
    """Return the command's error for one of the client's."""
    away = isinstance(error, KernelUnreachable | KernelFailed)
    exit_code = ExitCode.UNREACHABLE if away else ExitCode.USAGE
    fix = error.fix or (_RUN_IDS if "run_id" in error.fields else "")
    return CliError(error.message, reason=error.reason, fix=fix, exit_code=exit_code)


def kernel_client(source: AddressSource, **options: Any) -> KernelClient:
    """Return a client whose gRPC writes nothing to the terminal.

    :param options: those of :class:`nomaflow.client.KernelClient`
    """
    with quiet_grpc():
        from nomaflow.client import KernelClient
    return KernelClient(source, **options)


@contextlib.contextmanager
def quiet_grpc() -> Iterator[None]:
    """Import gRPC below this, so that it writes nothing to the terminal."""
    given = os.environ.get("GRPC_VERBOSITY")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads it on import
    try:
        yield
    finally:
        if given is None:
            del os.environ["GRPC_VERBOSITY"]  # child processes do not need it


def caller_name() -> str:
    """Return the name of the person at the terminal, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        return f"uid {os.getuid()}"


_Way = tuple[AddressSource, Path | bytes | None]
"""How to reach a kernel: with the authorities that must vouch for it, or a file of them; None means the system's."""


def _way_to_kernel(invocation: Invocation) -> _Way:
    """Return how to reach the kernel that a command is for.

    The address is that of the options, else of the named profile, else of the project's own kernel, else of the kernel
    that its host dials; outside any project, of the only profile.

    :raises CliError: if there is no address, its form is unknown, or no credential for it is known
    """
    profiles = ProfileFolder.of(os.environ)
    if invocation.addresses:
        return _at(",".join(invocation.addresses), invocation, profiles)
    if invocation.profile:
        return _with(profiles.read(invocation.profile), invocation)
    try:
        project = project_of(invocation)
    except CliError as error:
        if error.reason != "NO_PROJECT" or invocation.project is not None:
            raise
        return _with(_only_login(profiles, error), invocation)
    own = ProjectAddress(project=project, token=_token(invocation))
    if _runs(own):
        return own, invocation.ca
    dialled = _dialled(project)
    if dialled and not any(map(is_tcp, split_addresses(dialled))):
        return _at(dialled, invocation, profiles)
    joined = JoinedHost.of(project)
    if joined is None and not dialled:
        return own, invocation.ca
    return _with(_login_at(joined.kernel_id if joined else "", project, profiles), invocation)


def _token(invocation: Invocation) -> str:
    """Return the token that the options give, empty for none."""
    if invocation.token or invocation.token_file is None:
        return invocation.token or ""
    return read_token(invocation.token_file)


def _with(profile: Profile, invocation: Invocation) -> _Way:
    source = FixedAddress(address=profile.addresses, token=_token(invocation) or profile.token)
    return source, invocation.ca or profile.ca


def _at(given: str, invocation: Invocation, profiles: ProfileFolder) -> _Way:
    """Return how to reach the kernel at given addresses: on TCP with a token, that of a login if none is given."""
    addresses = split_addresses(given)
    for address in addresses:
        if not has_known_form(address):
            raise CliError(
                f"the address {address!r} has no known form",
                fix="write unix:/path/kernel.sock or tls://host:port, as in --address tls://kernel.example.org:7433",
            )
    token = _token(invocation)
    if not any(map(is_tcp, addresses)):
        return FixedAddress(address=addresses), None
    wanted = {each.removeprefix(TLS_SCHEME) for each in addresses}
    found = profiles.read(invocation.profile) if invocation.profile else None
    for each in profiles.all() if found is None else ():
        if wanted & {address.removeprefix(TLS_SCHEME) for address in each.addresses}:
            found = each
    if not token and found is None:
        raise CliError(
            f"a token is needed for the kernel at {', '.join(addresses)}, and there is no login for that address",
            reason="UNAUTHENTICATED",
            fix=f"{_LOGIN}; if the kernel of a login has moved there, add --profile NAME; "
            "a script gives a token with --token-file or NOMAFLOW_TOKEN",
        )
    source = FixedAddress(address=addresses, token=token or (found.token if found else ""))
    return source, invocation.ca or (found.ca if found else None)


def _login_at(kernel_id: str, project: Path, profiles: ProfileFolder) -> Profile:
    """Return the login at the kernel that a project's host has joined.

    :raises CliError: if there is none, or there are several
    """
    found = [each for each in profiles.all() if each.kernel_id == kernel_id]
    if not found:
        raise NoLogin(
            f"no kernel runs in {str(project)!r}, and there is no login at the one that its host dials; "
            "the host's certificate is for the host only",
            reason="UNAUTHENTICATED",
            fix=_LOGIN,
        )
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise CliError(
            f"there are several logins at the kernel of {str(project)!r}: {names}", fix="name one: --profile"
        )
    return found[0]


def _only_login(profiles: ProfileFolder, no_project: CliError) -> Profile:
    """Return the login of a person who is outside any project.

    :param no_project: the error about that
    :raises CliError: if there is no login, or there are several
    """
    found = profiles.all()
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(each.name for each in found)
        raise CliError(
            f"{no_project}, and there are several logins: {names}",
            reason=no_project.reason,
            fix="name a login: --profile; or change to a project's directory",
        )
    raise CliError(
        str(no_project),
        reason=no_project.reason,
        fix=f"{no_project.fix}; for a kernel elsewhere, log in with a string from its owner: nomaflow login FILE",
    )


def _dialled(project: Path) -> str:
    """Return ``[host] kernel`` of the project's nomaflow.toml, empty for none.

    :raises CliError: if the file cannot be read, so that the kernel's address is unknown
    """
    try:
        given = host_table(project).get("kernel")
    except CliError as error:
        raise CliError(
            f"no kernel runs in {str(project)!r}, and its host's kernel is unknown: {error}",
            fix="correct the file, or name the kernel with --address",
        ) from None
    return given if isinstance(given, str) else ""


def is_elsewhere(project: Path) -> bool:
    """Return True if a project's host dials a kernel elsewhere, and no kernel runs in the project.

    :raises CliError: if nomaflow.toml cannot be read
    """
    if _runs(ProjectAddress(project=project)):
        return False
    return bool(_dialled(project)) or JoinedHost.of(project) is not None


def _runs(own: ProjectAddress) -> bool:
    """Return True if something listens at the address, unlike after a kill; or if only the call can say so."""
    try:
        if not own.file.exists():
            return False
    except PermissionError:
        return True
    try:
        [address] = own.addresses()
    except KernelUnreachable:
        return False
    if address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(0)  # a stopped kernel takes no more connections once many wait
            # One that this user may not use may exist all the same.
            return probe.connect_ex(address.removeprefix("unix:")) not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


async def first(count: int, items: AsyncIterator[R]) -> list[R]:
    """Return the first items of a list that the kernel sends page by page; no further pages are fetched."""
    found: list[R] = []
    async for item in items:
        found.append(item)
        if len(found) == count:
            break
    return found
