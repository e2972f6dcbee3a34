"""Connects a command to a kernel, and translates the client's errors into the command's."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nomaflow.client import (
    AddressSource,
    ClientError,
    FixedAddress,
    KernelFailed,
    KernelUnreachable,
    ProjectAddress,
    has_known_form,
    read_token,
    split_addresses,
)
from nomaflow_cli.errors import CliError, ExitCode
from nomaflow_cli.project import project_around, read_settings, require_project
from nomaflow_project.reading.environment import resolve_environment
from nomaflow_telemetry.tracing import trace_globally

if TYPE_CHECKING:
    from nomaflow.client import KernelClient
    from nomaflow_cli.invocation import Invocation

__all__ = ["address_source", "as_cli_error", "caller_name", "quiet_grpc", "talk"]

R = TypeVar("R")


def caller_name() -> str:
    """Return the name of the person at the terminal, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        return f"uid {os.getuid()}"


def address_source(invocation: Invocation) -> AddressSource:
    """Return the source of the kernel's address: the options, else the project's kernel, else the one its host dials.

    :raises CliError: if there is no address, its form is unknown, or a token is missing
    """
    return _kernel(invocation)[0]


def _kernel(invocation: Invocation) -> tuple[AddressSource, Path | None]:
    """Return the source of the kernel's address, and the file of the authorities that must vouch for it."""
    token = invocation.token or ""
    if not token and invocation.token_file is not None:
        token = read_token(invocation.token_file)
    if invocation.address:
        return _fixed(invocation, invocation.address, token), invocation.ca
    project = require_project(invocation.project)
    own = ProjectAddress(project=project, secret=token)
    if own.file.exists() and not _is_left_over(own):
        return own, invocation.ca
    host = _host_table(project)
    if not host.get("kernel"):
        return own, invocation.ca
    source = _fixed(invocation, (host["kernel"],), token, project=project)
    if not source.secret and not all(each.startswith("unix:") for each in source.addresses()):
        raise CliError(
            f"the kernel {host['kernel']!r} ([host] kernel of nomaflow.toml) requires a token; "
            "the token of [host] token_file is only for the host and is not sent by commands",
            reason="UNAUTHENTICATED",
            fix="give the clients' token of that kernel (its .nomaflow/token) with --token-file or NOMAFLOW_TOKEN_FILE",
        )
    ca = project / host["kernel_ca"] if host.get("kernel_ca") else None
    return source, invocation.ca or ca


def _host_table(project: Path) -> Mapping[str, str]:
    """Return the texts of ``[host]`` in the project's nomaflow.toml.

    :raises CliError: if the file cannot be read, so that the kernel's address is unknown
    """
    try:
        found = read_settings(project).get("host")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CliError(
            f"no kernel runs in {str(project)!r}, and nomaflow.toml, which may name another, cannot be read: {error}",
            fix="correct the file, or name the kernel with --address",
        ) from None
    table = resolve_environment(found, os.environ) if isinstance(found, dict) else {}
    return {name: value for name, value in table.items() if isinstance(value, str)}


def _is_left_over(own: ProjectAddress) -> bool:
    """Return True if no kernel listens on the socket at the address any more, as after a kill."""
    try:
        address = own.current()
    except KernelUnreachable:
        return True
    if not address.startswith("unix:"):
        return False
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(address.removeprefix("unix:"))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False  # it may exist, but this user may not use it
    return False


def _fixed(invocation: Invocation, given: Sequence[str], token: str, *, project: Path | None = None) -> FixedAddress:
    addresses = [_checked(each) for each in split_addresses(",".join(given))]
    if not token and not all(each.startswith("unix:") for each in addresses):
        token = _project_token(project or invocation.project or project_around())
    return FixedAddress.of(addresses, token=token)


def _checked(address: str) -> str:
    if has_known_form(address):
        return address
    raise CliError(
        f"the address {address!r} has no known form",
        fix="write unix:/path/kernel.sock, host:port or tls://host:port, as in --address 127.0.0.1:7070",
    )


def _project_token(project: Path | None) -> str:
    path = project / ".nomaflow" / "token" if project else None
    return read_token(path) if path is not None and path.exists() else ""


def talk(
    invocation: Invocation,
    conversation: Callable[[KernelClient], Awaitable[R]],
    *,
    patience: float = 0.5,
    retry_seconds: float = 10.0,
    on_connected: Callable[[bool], None] | None = None,
) -> R:
    """Call the kernel and return the result.

    :param patience: seconds to try for a first answer; few, so that the user learns quickly that no kernel runs
    :param retry_seconds: time to wait for a kernel that answered and then went away
    :raises CliError: with message, reason and exit code of the error
    """
    try:
        return asyncio.run(_talk(invocation, conversation, patience, retry_seconds, on_connected))
    except ClientError as error:
        raise as_cli_error(error) from None


async def _talk(
    invocation: Invocation,
    conversation: Callable[[KernelClient], Awaitable[R]],
    patience: float,
    retry_seconds: float,
    on_connected: Callable[[bool], None] | None,
) -> R:
    with quiet_grpc():
        from nomaflow.client import KernelClient
    trace_globally("nomaflow-cli", os.environ)
    source, ca = _kernel(invocation)
    client = KernelClient(
        source,
        ca=ca,
        by=caller_name(),
        connect_seconds=patience,
        retry_seconds=retry_seconds,
        on_connected=on_connected,
    )
    async with client:
        return await conversation(client)


@contextlib.contextmanager
def quiet_grpc() -> Iterator[None]:
    """Keep gRPC's own output off the terminal. gRPC reads the variable on import, and children do not need it."""
    given = os.environ.get("GRPC_VERBOSITY")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        yield
    finally:
        if given is None:
            del os.environ["GRPC_VERBOSITY"]


def as_cli_error(error: ClientError) -> CliError:
    """Return the command's error for an error of the client."""
    away = isinstance(error, KernelUnreachable | KernelFailed)
    return CliError(
        error.message,
        reason=error.reason,
        fix=error.fix,
        exit_code=ExitCode.UNREACHABLE if away else ExitCode.USAGE,
    )
