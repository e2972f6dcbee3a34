"""The forms of addresses: TCP is always TLS, with or without its scheme, and nothing else is an address."""

from __future__ import annotations

import pytest

from nomaflow_api.addresses import has_known_form, host_and_port, is_tcp, with_scheme


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("127.0.0.1:7433", "tls://127.0.0.1:7433"),
        ("tls://127.0.0.1:7433", "tls://127.0.0.1:7433"),
        ("[2001:db8::1]:7433", "tls://[2001:db8::1]:7433"),
        ("kernel.example.org:0", "tls://kernel.example.org:0"),
    ],
)
def test_a_tcp_address_means_tls_with_or_without_its_scheme(address: str, written: str) -> None:
    assert is_tcp(address)
    assert has_known_form(address)
    assert with_scheme(address) == written


def test_a_unix_address_has_no_scheme_to_add() -> None:
    assert with_scheme("unix:/run/k.sock") == "unix:/run/k.sock"
    assert not is_tcp("unix:/run/k.sock")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:7433",
        "plaintext://127.0.0.1:7433",
        "tls://tls://a:1",
        "tls://:7433",
        "::1:7433",
        "a b:1",
        "user@host:1",
        "a:65536",
        "a:\uff11",
        "a",
        "unix:",
        "unix-abstract:/run/k.sock",
    ],
)
def test_another_form_is_no_address(address: str) -> None:
    assert not has_known_form(address)
    assert host_and_port(address) is None
