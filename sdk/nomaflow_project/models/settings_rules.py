"""Rules about nomaflow.toml beyond single keys, for its check and for the processes that start with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, TypeAlias

from nomaflow_api.addresses import is_tcp, split_addresses, with_scheme
from nomaflow_project.models.settings_file import KernelSection, SettingsFile
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.problems import Place, Problem, did_you_mean

_PlaceOf: TypeAlias = Callable[[str], Place]
_LAST_PORT = 65_535
_LEASE_BEATS = 4
TABLES = frozenset(each.name for each in fields(SettingsFile))
"""The tables of nomaflow.toml."""


class TcpDoors(NamedTuple):
    """The TCP addresses that a kernel listens on, with their scheme, for each kind of caller."""

    clients: tuple[str, ...]
    hosts: tuple[str, ...]
    joining: tuple[str, ...]


def tcp_doors(listen: Sequence[str], listen_hosts: Sequence[str], listen_join: Sequence[str]) -> TcpDoors:
    """Return the TCP doors that the keys of these names open.

    Without an address of its own, a door has the ports after those of the door before.
    """
    clients = tuple(with_scheme(each) for each in listen if is_tcp(each))
    hosts = tuple(map(with_scheme, listen_hosts)) or tuple(map(_next_port, clients))
    return TcpDoors(clients, hosts, tuple(map(with_scheme, listen_join)) or tuple(map(_next_port, hosts)))


def unknown_tables(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield an error for each table of nomaflow.toml that no process has: one that is misspelt would count for nothing.

    :param settings: the file as it is written
    """
    known = f"the known ones are {', '.join(sorted(TABLES))}; your own settings go below [app]"
    for name in (each for each in settings if each not in TABLES):
        fix = did_you_mean(name, TABLES, noun="table", otherwise=known)
        yield (Place(SETTINGS_FILE) / name).error("unknown_key", f"unknown table {name!r}", fix=fix)


def kernel_problems(kernel: KernelSection, place_of: _PlaceOf) -> Iterator[Problem]:
    """Yield the problems for which a kernel does not start with a section, whose values are valid one by one.

    :param place_of: returns the place of a key
    """
    lease, beat = kernel.lease_seconds, kernel.heartbeat_seconds
    if lease <= beat:
        yield place_of("lease_seconds").error(
            "conflicting_keys",
            f"lease_seconds is {lease:g} and heartbeat_seconds {beat:g}; the lease must be longer",
            fix=f"best four times as long: lease_seconds = {_LEASE_BEATS * beat:g}",
        )
    doors = tcp_doors(*map(split_addresses, (kernel.listen, kernel.listen_hosts, kernel.listen_join)))
    yield from _check_certificate(kernel, place_of, on_tcp=any(doors))
    yield from _check_doors(kernel, doors, place_of)


def _check_certificate(kernel: KernelSection, place_of: _PlaceOf, *, on_tcp: bool) -> Iterator[Problem]:
    if bool(kernel.tls_cert) != bool(kernel.tls_key):
        given, other = ("tls_cert", "tls_key") if kernel.tls_cert else ("tls_key", "tls_cert")
        message = f"{given} is given and {other} is not; TLS needs both files"
        yield place_of(given).error("conflicting_keys", message, fix=f"give {other} too, or remove {given}")
    elif kernel.tls_ca and not kernel.tls_cert:
        message = "tls_ca is given and tls_cert is not; the kernel's own authority needs neither"
        yield place_of("tls_ca").error("conflicting_keys", message, fix="remove tls_ca, or give tls_cert and tls_key")
    elif kernel.tls_cert and not on_tcp:
        message = "there is a certificate, and none of the addresses in listen uses it"
        fix = "add tls://HOST:PORT to listen, or remove tls_cert and tls_key"
        yield place_of("tls_cert").error("conflicting_keys", message, fix=fix)


def _check_doors(kernel: KernelSection, doors: TcpDoors, place_of: _PlaceOf) -> Iterator[Problem]:
    written = "listen"
    for key, addresses in (("listen_hosts", doors.hosts), ("listen_join", doors.joining)):
        if getattr(kernel, key):
            written = key
        elif too_high := next((each for each in addresses if _port(each) > _LAST_PORT), None):
            message = f"without {key}, its address would be {too_high!r}, and there is no port after {_LAST_PORT}"
            fix = f"give {key} = 'tls://HOST:PORT', or choose a lower port"
            yield place_of(written).error("conflicting_keys", message, fix=fix)
            return
    every = [each for addresses in doors for each in addresses if _port(each)]
    if twice := next((each for each in every if every.count(each) > 1), None):
        yield place_of("listen").error(
            "conflicting_keys",
            f"two doors have the address {twice!r}; without listen_hosts and listen_join, hosts and joining take the"
            " two ports after each of `listen`",
            fix="choose other ports",
        )


def _next_port(address: str) -> str:
    port = _port(address)
    return f"{address.rpartition(':')[0]}:{port + 1 if port else 0}"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
