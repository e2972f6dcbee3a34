"""Addresses of a project's kernel, and the token for it. Loads no gRPC."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nomaflow.client.errors import KernelUnreachable, Unauthenticated
from nomaflow_api.addresses import address_in, split_addresses
from nomaflow_api.join_string import JOIN_PREFIX


class AddressSource(Protocol):
    """Source of the kernel's addresses, asked again at every reconnect, since a restarted kernel may have another."""

    def addresses(self) -> tuple[str, ...]:
        """Return each ``unix:/path/kernel.sock``, ``host:port`` or ``tls://host:port``: one leads, others stand by.

        :raises KernelUnreachable: if there is no address
        """

    @property
    def token(self) -> str:
        """The token to send over TLS, empty for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedAddress:
    """A given address, with the token for it.

    :param address: several, in a list or separated by commas, if kernels stand by for each other
    :param token: one for all of them
    """

    address: str | Sequence[str]
    token: str = field(default="", repr=False)

    def addresses(self) -> tuple[str, ...]:
        """Return the addresses."""
        return split_addresses(self.address if isinstance(self.address, str) else ",".join(self.address))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectAddress:
    """The kernel of a project directory, which writes its address into ``.nomaflow/address``.

    :param token: for an address on TCP; empty for none
    """

    project: Path | str
    token: str = field(default="", repr=False)

    @property
    def file(self) -> Path:
        """The file with the address."""
        return Path(self.project) / ".nomaflow" / "address"

    def addresses(self) -> tuple[str, ...]:
        """Return the current address in the file.

        :raises KernelUnreachable: if the file is missing, empty, or that of another project
        """
        try:
            return (address_in(self.file),)
        except PermissionError:
            raise KernelUnreachable(
                f"cannot read {str(self.file)!r}: permission denied",
                fix="run it as the user whom the project belongs to",
            ) from None
        except (OSError, ValueError):
            own = " of its own" if self.file.exists() else ""
            raise KernelUnreachable(
                f"no kernel runs in {str(self.project)!r}: there is no .nomaflow/address{own}",
                fix=f"start one with: nomaflow up {shlex.quote(str(self.project))}; or name the address of another",
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class _TokenInFile:
    """The addresses of a source, and the token in a file, read at each call: it can be replaced without a restart."""

    source: AddressSource
    file: Path

    def addresses(self) -> tuple[str, ...]:
        return self.source.addresses()

    @property
    def token(self) -> str:
        return read_token(self.file)


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelPlace:
    """The kernel that a service beside it asks, such as the alerts: its addresses with the token, and its authority.

    :param project: the project of the service
    :param ca: file with the authority to trust, PEM; None for the system's
    """

    project: Path
    source: AddressSource
    ca: Path | None = None

    @classmethod
    def of(
        cls, project: Path, environ: Mapping[str, str], *, kernel: str, token_file: str, kernel_ca: str
    ) -> KernelPlace:
        """Return what the keys of nomaflow.toml name; the environment wins, files are relative to the project.

        :raises Unauthenticated: if the token's file cannot be read
        """
        token = environ.get("NOMAFLOW_TOKEN", "")
        file = environ.get("NOMAFLOW_TOKEN_FILE") or (str(project / token_file) if token_file else "")
        ca = environ.get("NOMAFLOW_CA") or (str(project / kernel_ca) if kernel_ca else "")
        source: AddressSource = ProjectAddress(project=project, token=token)
        if addresses := environ.get("NOMAFLOW_ADDRESS") or kernel:
            source = FixedAddress(address=addresses, token=token)
        if file and not token:
            read_token(Path(file))
            source = _TokenInFile(source=source, file=Path(file))
        return cls(project=project, source=source, ca=Path(ca) if ca else None)


def read_token(path: Path) -> str:
    """Return the token in a file.

    :raises Unauthenticated: if the file cannot be read, or holds a join string
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (getattr(error, "strerror", None) or str(error)).lower()
        raise Unauthenticated(
            f"cannot read the token file {str(path)!r}: {why}", fix="name a readable file with the token in it"
        ) from error
    if text.startswith(JOIN_PREFIX):
        raise Unauthenticated(
            f"the file {str(path)!r} holds a join string, not a token",
            fix=f"use it once, after which commands need no token: nomaflow login {shlex.quote(str(path))}; "
            "for a service, make a token: nomaflow token create --service NAME --role ROLE",
        )
    return text
