"""The forms of addresses: TCP is always TLS, with or without its scheme, and nothing else is an address."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nomaflow_api.addresses import address_in, has_known_form, host_and_port, is_tcp, with_scheme


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


def test_an_address_that_was_copied_with_its_project_is_none(tmp_path: Path) -> None:
    """It leads to the kernel that runs in the original. By a link to project or file it is the project's own."""
    original, copy, link = tmp_path / "original", tmp_path / "copy", tmp_path / "link"
    (original / ".nomaflow" / "run").mkdir(parents=True)
    file = original / ".nomaflow" / "address"
    own = f"unix:{original}/.nomaflow/run/kernel.sock"
    file.write_text(f"{own}\n")
    link.symlink_to(original)
    (tmp_path / "address").symlink_to(file)
    for good in (file, link / ".nomaflow" / "address", tmp_path / "address"):
        assert address_in(good) == own
    shutil.copytree(original, copy)
    with pytest.raises(FileNotFoundError, match="no address of its project"):
        address_in(copy / ".nomaflow" / "address")
    shutil.rmtree(original)
    with pytest.raises(FileNotFoundError):
        address_in(copy / ".nomaflow" / "address")


@pytest.mark.parametrize("address", ["unix:/run/nomaflow/kernel.sock", "tls://127.0.0.1:7433"])
def test_an_address_elsewhere_is_read_from_its_first_line(address: str, tmp_path: Path) -> None:
    """A person may have given it to the kernel; an empty file holds none."""
    (tmp_path / "address").write_text(f"{address}\nanother\n")
    assert address_in(tmp_path / "address") == address
    (tmp_path / "address").write_text("\n")
    with pytest.raises(FileNotFoundError):
        address_in(tmp_path / "address")
