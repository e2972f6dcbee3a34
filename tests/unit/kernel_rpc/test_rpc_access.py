"""Access to methods: every method has a policy; tokens are compared, kept and made with care."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import nomaflow_kernel
from nomaflow_api.v1 import host_gateway_service_pb2, kernel_service_pb2
from nomaflow_kernel.rpc import POLICY, AccessControl, TokenFileError, Tokens
from nomaflow_kernel.rpc.access import Role
from nomaflow_kernel.rpc.endpoints import Endpoints, service_handler
from nomaflow_kernel.rpc.errors import NotAuthenticated, NotPermitted
from processes import open_files

OURS: list[ServiceDescriptor] = [
    kernel_service_pb2.DESCRIPTOR.services_by_name["KernelService"],
    host_gateway_service_pb2.DESCRIPTOR.services_by_name["HostGatewayService"],
]
THEIRS: list[ServiceDescriptor] = [
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
TRIGGER = "/nomaflow_api.v1.KernelService/TriggerRun"
ATTACH = "/nomaflow_api.v1.HostGatewayService/Attach"


def test_every_method_that_is_served_has_a_policy_and_no_other_has() -> None:
    """A new rpc of ours without a decision on who may call it fails here; a later release of theirs may have more."""
    assert POLICY.keys() - methods_of(THEIRS) == methods_of(OURS)


def test_an_rpc_that_a_later_release_brings_is_not_served() -> None:
    """A service of theirs may have rpcs that are not served; one of ours may not, and none may lack one."""
    endpoints = Endpoints(access=AccessControl(), on_error=lambda _: None, deadlines={})
    health = THEIRS[0]

    async def call(_request: object, _caller: object) -> None:
        """Answer nothing."""

    with pytest.raises(ValueError, match=r"has \['Check', .*'Watch'\], served are \['Check'\]"):
        service_handler(health, {"Check": call}, endpoints)
    with pytest.raises(ValueError, match="served are \\['Chekc'\\]"):
        service_handler(health, {"Chekc": call}, endpoints, may_grow=True)
    handler = service_handler(health, {"Check": call}, endpoints, may_grow=True)
    served = [path for path in methods_of([health]) if handler.service(SimpleNamespace(method=path)) is not None]
    assert served == ["/grpc.health.v1.Health/Check"]


def methods_of(services: list[ServiceDescriptor]) -> set[str]:
    """Return the paths of all rpcs."""
    return {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def test_clients_and_hosts_have_nothing_in_common_but_health() -> None:
    """The health check is the only method open without a token, and no other is open to both tokens."""
    shared = {method for method, roles in POLICY.items() if {Role.CLIENT, Role.HOST} <= roles}
    assert shared == {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
    assert [method for method, roles in POLICY.items() if Role.ANYONE in roles] == ["/grpc.health.v1.Health/Check"]


def test_a_method_without_a_policy_is_served_to_nobody(tmp_path: Path) -> None:
    """A method without a policy is refused to everybody, the owner included."""
    access = AccessControl(lambda: Tokens.load(tmp_path))
    with pytest.raises(NotPermitted):
        access.admit("/x.Y/Z", access.identify("unix:", None))


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic abc", b"\xff\xfe", "bearer\x00"]
)
def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(tmp_path: Path, shown: str | bytes | None) -> None:
    """One exception with one text."""
    access = AccessControl(lambda: Tokens.load(tmp_path))
    with pytest.raises(NotAuthenticated) as caught:
        access.admit(TRIGGER, access.identify("ipv4:127.0.0.1:5", shown))
    assert caught.value.message == NotAuthenticated().message


def test_each_token_opens_its_own_methods(tmp_path: Path) -> None:
    """The scheme's case does not matter; the token's does."""
    access = AccessControl(lambda: Tokens.load(tmp_path))
    client = (tmp_path / "token").read_text().strip()
    host = (tmp_path / "host-token").read_text().strip()
    access.admit(TRIGGER, access.identify("ipv4:127.0.0.1:5", f"bearer {client}"))
    access.admit(ATTACH, access.identify("ipv6:[::1]:5", f"Bearer {host}".encode()))
    for token, method in ((client, ATTACH), (host, TRIGGER)):
        with pytest.raises(NotPermitted):
            access.admit(method, access.identify("ipv4:127.0.0.1:5", f"Bearer {token}"))
    for shown in (f"Bearer {client.swapcase()}", f"Basic {client}", client):
        with pytest.raises(NotAuthenticated):
            access.admit(TRIGGER, access.identify("ipv4:127.0.0.1:5", shown))


def test_without_tokens_a_tcp_peer_is_nobody() -> None:
    """A kernel on a Unix socket alone knows no token that could be guessed."""
    access = AccessControl()
    with pytest.raises(NotAuthenticated):
        access.admit(TRIGGER, access.identify("ipv4:127.0.0.1:5", "Bearer "))


def test_tokens_are_made_once_private_and_different(tmp_path: Path) -> None:
    """A second start finds the same tokens; nothing else is left in the directory."""
    first, second = Tokens.load(tmp_path), Tokens.load(tmp_path)
    assert first == second
    assert first.client != first.host
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host-token", "token"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_token_file_that_cannot_be_trusted_is_refused_without_showing_it(tmp_path: Path) -> None:
    """Open to others, a link, too short, not there: each names the file and never the token."""
    Tokens.load(tmp_path)
    path = tmp_path / "token"
    secret = path.read_text().strip()
    path.chmod(0o640)
    with pytest.raises(TokenFileError, match="chmod 600") as caught:
        Tokens.load(tmp_path)
    assert secret not in str(caught.value)
    path.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o600)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TokenFileError):
        Tokens.load(tmp_path)
    path.unlink()
    path.touch(mode=0o600)
    with pytest.raises(TokenFileError, match="at least 32"):
        Tokens.load(tmp_path)
    with pytest.raises(TokenFileError, match="cannot use"):
        Tokens.load(tmp_path, client_file=tmp_path / "absent" / "token")


def test_what_is_no_file_is_no_token_file(tmp_path: Path) -> None:
    """A directory and a pipe are refused at once, and no descriptor stays open."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    before = len(open_files())
    for name in ("pipe", "folder"):
        with pytest.raises(TokenFileError, match="not a regular file"):
            Tokens.load(tmp_path, client_file=tmp_path / name)
    assert len(open_files()) == before


def test_no_repr_shows_a_token(tmp_path: Path) -> None:
    """A token in a value that is logged by mistake stays hidden."""
    tokens = Tokens.load(tmp_path)
    assert tokens.client.hex() not in repr(tokens)
    assert repr(tokens.client) not in repr(tokens)


def test_the_documentation_names_every_method() -> None:
    """docs/grpc_api.md is not behind the .proto files."""
    text = (Path(nomaflow_kernel.__file__).parents[2] / "docs" / "grpc_api.md").read_text()
    names = [method.name for service in OURS for method in service.methods]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_a_reload_reads_the_tokens_at_once(tmp_path: Path) -> None:
    """Calls look at most every two seconds; who replaced a token and asks for a reload need not wait."""
    access = AccessControl(lambda: Tokens.load(tmp_path))
    old, new = (tmp_path / "token").read_text().strip(), "n" * 40
    assert access.identify("ipv4:127.0.0.1:1", f"Bearer {old}").role is Role.CLIENT
    (tmp_path / "token").write_text(new)
    access.renew()
    assert access.identify("ipv4:127.0.0.1:1", f"Bearer {new}").role is Role.CLIENT
    assert access.identify("ipv4:127.0.0.1:1", f"Bearer {old}").role is Role.ANYONE
