"""The addresses at which others reach a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from nomaflow_kernel.network.door_addresses import door_addresses
from nomaflow_kernel.process.settings import KernelSettings

SETTINGS = KernelSettings(project=Path("/srv/kernel"), addresses=("tls://0.0.0.0:7433",))


@pytest.mark.parametrize(
    ("clients", "hosts", "reached"),
    [
        (("a:7433", "tls://b:7433"), (), ("tls://a:7434", "tls://b:7434")),
        (("a:443",), (), ("tls://a:7434",)),
        (("a:7433", "b:8433"), ("a:7434", "tls://b:8434"), ("tls://a:7434", "tls://b:8434")),
        ((), ("a:7434",), ("tls://a:7434",)),
    ],
)
def test_hosts_dial_the_names_of_clients_unless_told_otherwise(
    clients: tuple[str, ...], hosts: tuple[str, ...], reached: tuple[str, ...]
) -> None:
    """The ports are those at which this kernel listens: where another one has others, all are named."""
    settings = replace(SETTINGS, advertised=clients, advertised_hosts=hosts)
    assert door_addresses(settings, {}).reached(settings).hosts == reached
