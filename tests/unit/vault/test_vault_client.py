"""The vault's client against a stand-in server: what a person reads when it is away, slow, refuses or lies."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificate_authority import Authority
from nomaflow.secrets import SecretRefused, SecretUnavailable
from nomaflow_vault import nomaflow_secrets
from nomaflow_vault.client import Vault
from nomaflow_vault.settings import VaultSettings
from real_system import eventually
from vault_server import VaultServer, vault_server


@pytest.fixture
def server() -> Iterator[VaultServer]:
    """A vault with one secret."""
    with vault_server() as made:
        made.secrets["kv/team/db"] = {"user": "ann", "password": "s3cret", "port": 5432, "a b": "c"}
        yield made


def _vault(server: VaultServer, **more: str) -> Vault:
    login = {} if "VAULT_ROLE_ID" in more else {"VAULT_TOKEN": "root-t0ken"}
    return Vault(VaultSettings.of({"VAULT_ADDR": server.address, "VAULT_CLIENT_TIMEOUT": "20", **login, **more}))


def test_the_fields_of_a_secret_are_read_at_once(server: VaultServer) -> None:
    """Fields of one path come from one answer, also when several threads ask; the namespace is sent."""
    vault = _vault(server, VAULT_NAMESPACE="teams/a")
    found: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: vault.read(f"kv/team/db#{name}")}))
        for name in ("user", "password", "a b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"user": "ann", "password": "s3cret", "a b": "c"}
    assert server.calls == ["GET /v1/kv/data/team/db"]
    assert server.headers[0]["X-Vault-Namespace"] == "teams/a"


def test_a_rotated_value_is_read_once_its_time_is_over(server: VaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lease after a second, with one after most of it; NOMAFLOW_VAULT_CACHE_SECONDS makes it longer."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for lease, more, over in ((0, {}, 1.0), (100, {}, 80.0), (0, {"NOMAFLOW_VAULT_CACHE_SECONDS": "30"}, 30.0)):
        server.lease = lease
        vault = _vault(server, **more)
        server.secrets["kv/x"] = {"f": "old"}
        assert vault.read("kv/x#f") == "old"
        server.secrets["kv/x"] = {"f": "new"}
        now += over - 0.1
        assert vault.read("kv/x#f") == "old"
        now += 0.2
        assert vault.read("kv/x#f") == "new"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("kv/nope#f", r"does not have the secret kv/nope, or it was deleted \(404\)"),
        ("kv/team/db#nope", "the secret kv/team/db has no field 'nope'"),
        ("kv/team/db#port", "'port' is int, expected a text"),
        ("kv/team/db", "not of the form MOUNT/PATH#FIELD"),
        ("kv#f", "not of the form"),
        ("/kv/x#f", "not of the form"),
    ],
)
def test_what_cannot_be_had_is_refused_for_good(server: VaultServer, reference: str, words: str) -> None:
    """A retry cannot help."""
    with pytest.raises(SecretRefused, match=words):
        _vault(server).read(reference)


def test_a_path_cannot_leave_its_place(server: VaultServer) -> None:
    """Dots and question marks of a path are part of it, not of the URL."""
    server.secrets["kv/x"] = {"f": "v"}
    for reference in ("kv/x?version=1#f", "kv/../sys/health#f", "kv/x%2f..#f"):
        with pytest.raises((SecretRefused, SecretUnavailable)):
            _vault(server).read(reference)
    assert all("version=1" not in call.partition("?")[2] for call in server.calls)
    assert all(call.startswith("GET /v1/kv/data/") for call in server.calls)


def test_a_refused_token_is_told_and_no_token_is_shown(server: VaultServer) -> None:
    """403 with a given token is for good, and what the vault says is not passed on."""
    with pytest.raises(SecretRefused, match=r"does not permit the secret kv/team/db \(403\)") as caught:
        _vault(server, VAULT_TOKEN="wrong-t0ken").read("kv/team/db#user")
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("status", [307, 429, 473, 500, 502, 503])
def test_trouble_of_the_vault_may_pass(server: VaultServer, status: int) -> None:
    """Each is an error that a retry may overcome; a redirect is not followed with the token."""
    server.status = status
    with pytest.raises(SecretUnavailable, match=f"answered {status}") as caught:
        _vault(server).read("kv/team/db#user")
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"<html>login</html>", b"[1]", b'{"data": 1}', b'{"data": {"data": null}}', b"[" * 9999]
)
def test_a_malformed_answer_is_named(server: VaultServer, body: bytes) -> None:
    """As of a proxy in front of the vault."""
    server.body = body
    with pytest.raises(SecretUnavailable, match="the vault's answer"):
        _vault(server).read("kv/team/db#user")


def test_a_redirect_is_not_followed_with_the_token(server: VaultServer) -> None:
    """Whoever answers for a standby must not be able to send the token elsewhere."""
    with vault_server() as other:
        server.redirect = other.address
        with pytest.raises(SecretUnavailable, match="answered 307"):
            _vault(server).read("kv/team/db#user")
        assert other.calls == []


def test_an_endless_answer_is_cut(server: VaultServer) -> None:
    """It costs a megabyte at most."""
    server.body = b" " * 2_000_000
    with pytest.raises(SecretUnavailable, match="larger than"):
        _vault(server).read("kv/team/db#user")


def test_a_slow_or_dead_vault_costs_a_bounded_time(server: VaultServer) -> None:
    """Late, byte by byte, or nobody listening; with it back, reads succeed again."""
    vault = _vault(server, VAULT_CLIENT_TIMEOUT="0.5")
    for delay, drip in ((2.0, 0.0), (0.0, 0.1)):
        server.delay, server.drip = delay, drip
        began = time.monotonic()
        with pytest.raises(SecretUnavailable, match=r"did not answer within 0\.5 s"):
            vault.read("kv/team/db#user")
        assert time.monotonic() - began < 5
    server.delay = server.drip = 0.0

    def read() -> str:
        with contextlib.suppress(SecretUnavailable):
            return vault.read("kv/team/db#user")
        return ""

    assert eventually(read) == "ann"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(SecretUnavailable, match="cannot be reached"):
        _vault(server).read("kv/team/db#user")


def test_approle_logs_in_again_when_its_token_is_over(server: VaultServer) -> None:
    """One login serves many reads; a revoked token is replaced once; a wrong secret id is refused, no token named."""
    role = {"VAULT_ROLE_ID": "role-1", "VAULT_SECRET_ID": "secret-id-1"}
    vault = _vault(server, **role)
    server.secrets["kv/x"] = {"f": "v"}
    assert (vault.read("kv/team/db#user"), vault.read("kv/x#f"), server.logins) == ("ann", "v", 1)
    server.tokens.clear()
    server.secrets["kv/y"] = {"f": "w"}
    assert (vault.read("kv/y#f"), server.logins) == ("w", 2)
    with pytest.raises(SecretRefused, match=r"the login by AppRole as malformed \(400\)"):
        _vault(server, **{**role, "VAULT_SECRET_ID": "wrong"}).read("kv/x#f")
    server.body = b'{"auth": {"client_token": null}}'
    with pytest.raises(SecretUnavailable, match="answer to the login has no token"):
        _vault(server, **role).read("kv/x#f")


def test_tls_trusts_the_named_authority_only(tmp_path: Path) -> None:
    """VAULT_CACERT is trusted; without it, a certificate of an unknown authority is refused."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue("vault", "127.0.0.1")
    context.load_cert_chain(pair.cert, pair.key)
    with vault_server(tls=context) as server:
        server.secrets["kv/x"] = {"f": "v"}
        assert _vault(server, VAULT_CACERT=str(authority.file)).read("kv/x#f") == "v"
        with pytest.raises(SecretUnavailable, match="certificate verify failed"):
            _vault(server).read("kv/x#f")
        assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "vault:8200"}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "https://[::1"}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "https://vault.example.com:port"}, "VAULT_ADDR is not set"),
        ({"VAULT_ADDR": "http://vault.example.com:8200", "VAULT_TOKEN": "t"}, "would show the token"),
        ({"VAULT_ADDR": "https://v"}, "there is no login"),
        ({"VAULT_ADDR": "https://v", "VAULT_TOKEN_FILE": "/no/such"}, "VAULT_TOKEN_FILE"),
        ({"VAULT_ADDR": "https://v", "VAULT_TOKEN": "t", "VAULT_CLIENT_TIMEOUT": "soon"}, "not a number"),
        ({"VAULT_ADDR": "https://v", "VAULT_TOKEN": "t", "VAULT_CACERT": "/no/such"}, "VAULT_CACERT cannot be used"),
    ],
)
def test_settings_that_cannot_work_are_named_at_the_first_reference(environ: dict[str, str], words: str) -> None:
    """The error comes with the first reference, not with the load: a project without references needs no vault."""
    reader = nomaflow_secrets(environ)["vault"]
    with pytest.raises(SecretRefused, match=words):
        reader("kv/x#f")


def test_a_token_may_come_from_a_file(server: VaultServer, tmp_path: Path) -> None:
    """As an agent beside the host keeps it."""
    file = tmp_path / "token"
    file.write_text("root-t0ken\n")
    settings = VaultSettings.of({"VAULT_ADDR": server.address, "VAULT_TOKEN_FILE": str(file)})
    assert Vault(settings).read("kv/team/db#user") == "ann"
    assert "root-t0ken" not in repr(settings)


def test_a_token_of_two_lines_is_refused_and_not_quoted(server: VaultServer, tmp_path: Path) -> None:
    """A file with a second line, such as a date, is named; the error shows nothing of it."""
    file = tmp_path / "token"
    file.write_text("root-t0ken\nof Monday\n")
    with pytest.raises(SecretRefused, match="VAULT_TOKEN is more than one line") as caught:
        _vault(server, VAULT_TOKEN="", VAULT_TOKEN_FILE=str(file)).read("kv/team/db#user")
    assert "t0ken" not in str(caught.value)
