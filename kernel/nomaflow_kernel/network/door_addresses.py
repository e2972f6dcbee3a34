"""The addresses of a kernel's doors: where it listens, and where others reach it."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from msgspec import Struct

from nomaflow_api.addresses import host_and_port, is_tcp, with_scheme
from nomaflow_kernel.network.socket_place import default_socket
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_project.models.settings_rules import tcp_doors

_OWN_SOCKET = "unix:"
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104  # compared with, not listened on


class DoorAddresses(Struct, frozen=True, kw_only=True):
    """The addresses of each door; TCP ones with their scheme.

    :param owner: Unix sockets; at least one
    :param clients: for users and services
    :param hosts: for plugin hosts
    :param joining: for join strings
    """

    owner: tuple[str, ...]
    clients: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    joining: tuple[str, ...] = ()

    @property
    def on_tcp(self) -> tuple[str, ...]:
        """All TCP addresses."""
        return (*self.clients, *self.hosts, *self.joining)

    def __str__(self) -> str:
        doors = (("clients", self.clients), ("hosts", self.hosts), ("joining", self.joining))
        return ", ".join((*self.owner, *(f"{each} for {whom}" for whom, listened in doors for each in listened)))

    def reached(self, settings: KernelSettings) -> DoorAddresses:
        """Return the addresses that others dial, without ports that are not known yet.

        Where the settings name none, they are those that are listened on, with a name that stands for all of this
        machine's addresses replaced by the machine's own.
        """
        advertised = settings.advertised
        tcp = [with_scheme(each) for each in advertised if is_tcp(each)]
        names = list(dict.fromkeys(_host(each) for each in tcp))

        def dialled(addresses: tuple[str, ...]) -> tuple[str, ...]:
            known = [each for each in addresses if not each.endswith(":0")]
            return tuple(
                dict.fromkeys(
                    f"tls://{name}:{each.rpartition(':')[2]}" for each in known for name in names or (_own_name(each),)
                )
            )

        sockets = tuple(each for each in advertised if not is_tcp(each)) if advertised else self.owner
        clients = tuple(tcp) if advertised else dialled(self.clients)
        hosts = tuple(map(with_scheme, settings.advertised_hosts)) or dialled(self.hosts)
        return DoorAddresses(owner=sockets, clients=clients, hosts=hosts, joining=dialled(self.joining))


def door_addresses(settings: KernelSettings, environ: Mapping[str, str]) -> DoorAddresses:
    """Return the addresses to listen on. The settings have checked them.

    The owner's Unix socket is always among them: it gives the first credential to everybody else.

    :raises CannotStart: if the directory of its default place cannot be used
    """
    given = settings.addresses or (_OWN_SOCKET,)
    sockets = [each for each in given if not is_tcp(each)] or [_OWN_SOCKET]
    doors = tcp_doors(settings.addresses, settings.hosts_addresses, settings.join_addresses)
    return DoorAddresses(
        owner=tuple(default_socket(settings.project, environ) if each == _OWN_SOCKET else each for each in sockets),
        **doors._asdict(),
    )


def _host(address: str) -> str:
    found = host_and_port(address)
    return found[0] if found else ""


def _own_name(address: str) -> str:
    host = _host(address)
    return socket.gethostname() if host in _EVERYWHERE else host
