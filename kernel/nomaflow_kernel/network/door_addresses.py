"""The addresses of a kernel's doors: where it listens, and where others reach it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

from msgspec import Struct

from nomaflow_api.addresses import host_and_port, is_tcp, with_scheme
from nomaflow_kernel.network.listening import AddressRefused, default_socket
from nomaflow_kernel.process.settings import KernelSettings

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

    @property
    def everywhere(self) -> tuple[str, ...]:
        """All addresses."""
        return (*self.owner, *self.on_tcp)

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
    """Return the addresses to listen on. The settings have checked the form of each.

    The owner's Unix socket is always among them: it gives the first credential to everybody else.

    :raises AddressRefused: if one must not be used
    """
    given = settings.addresses or (_OWN_SOCKET,)
    sockets = [each for each in given if not is_tcp(each)] or [_OWN_SOCKET]
    clients = tuple(with_scheme(each) for each in given if is_tcp(each))
    hosts = _of_door(settings.hosts_addresses, clients, "listen_hosts")
    found = DoorAddresses(
        owner=tuple(default_socket(settings.project, environ) if each == _OWN_SOCKET else each for each in sockets),
        clients=clients,
        hosts=hosts,
        joining=_of_door(settings.join_addresses, hosts, "listen_join"),
    )
    fixed = [each for each in found.on_tcp if not each.endswith(":0")]
    twice = next((each for each in fixed if fixed.count(each) > 1), None)
    if twice is not None:
        raise AddressRefused(
            f"two doors have the address {twice!r}; without listen_hosts and listen_join, hosts and joining take "
            "the two ports after each of `listen`: choose other ports"
        )
    return found


def _of_door(given: Sequence[str], before: Sequence[str], key: str) -> tuple[str, ...]:
    """Return the addresses of a door: the given ones, otherwise the ports after those of the door before."""
    return tuple(map(with_scheme, given)) or tuple(_next_port(each, key) for each in before)


def _next_port(address: str, key: str) -> str:
    host, _, port = address.rpartition(":")
    if int(port) == 65535:
        raise AddressRefused(f"there is no port after that of {address!r}; give {key}")
    return f"{host}:{int(port) + 1 if int(port) else 0}"


def _host(address: str) -> str:
    found = host_and_port(address)
    return found[0] if found else ""


def _own_name(address: str) -> str:
    host = _host(address)
    return socket.gethostname() if host in _EVERYWHERE else host
