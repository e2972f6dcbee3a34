"""The file of a host's identity: whole whatever happens, for its owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import structs

from certificate_authority import Authority
from host_identities import identity_of
from machine_parts import need
from nomaflow_host.identity.files import Identity, IdentityFile
from nomaflow_host.process.errors import NotJoined, StateUnwritable
from nomaflow_host.session.renewing import due_at

READS = """
import sys
from pathlib import Path
from nomaflow_host.identity.files import IdentityFile
print(IdentityFile(Path(sys.argv[1])).read(), "cryptography" in sys.modules)
"""
NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def identity(authority: Authority) -> Identity:
    """Make an identity."""
    return identity_of(authority, "teamb")


@pytest.fixture
def file(tmp_path: Path) -> IdentityFile:
    """Return a place that holds none yet."""
    return IdentityFile(tmp_path / ".nomaflow" / "identity.json")


def test_it_is_for_its_owner_alone(file: IdentityFile, identity: Identity) -> None:
    """Its mode is 0600; a key that others can read is not used, and the error says what to do."""
    file.write(identity)
    assert file.read() == identity
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert identity.key not in repr(identity)
    file.path.chmod(0o644)
    with pytest.raises(NotJoined, match="open to others") as raised:
        file.read()
    assert "nomaflow token revoke" in raised.value.fix


def test_a_host_that_connects_loads_no_library_for_certificates(file: IdentityFile, identity: Identity) -> None:
    """It would take 10 MB and a sixth of the CPU of a host's start."""
    file.write(identity)
    done = subprocess.run([sys.executable, "-c", READS, file.path], capture_output=True, text=True, check=True)
    assert done.stdout == f"{identity} False\n"


def test_a_host_that_has_not_joined_is_told_how(file: IdentityFile) -> None:
    """There is nothing to read, and nothing is made."""
    with pytest.raises(NotJoined, match="--join FILE"):
        file.read()
    assert not file.exists


def test_one_in_a_folder_of_another_user_is_none(file: IdentityFile, identity: Identity) -> None:
    """Such a user's instance has its own place, with ``--state-dir``; it ended with a traceback."""
    need(root=True)
    file.write(identity)
    os.seteuid(65_534)
    try:
        assert not file.exists
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": "teamb"}', b"\x00", b'{"host": "\xff"}'])
def test_damage_is_told(file: IdentityFile, identity: Identity, content: bytes) -> None:
    """A file that cannot be read is an error with a way out, not a traceback."""
    file.write(identity)
    file.path.write_bytes(content)
    with pytest.raises(NotJoined, match="damaged"):
        file.read()
    with pytest.raises(NotJoined, match="damaged"):
        file.keep_addresses(("tls://a:1",))


@pytest.mark.parametrize("part", ["key", "certificate", "authorities"])
@pytest.mark.parametrize("content", ["", "garbage", NO_CERTIFICATE, "another"])
def test_what_does_not_belong_together_is_not_shown(
    file: IdentityFile, identity: Identity, authority: Authority, part: str, content: str
) -> None:
    """Without authorities gRPC would trust those of the system, and an empty key would end the process."""
    other = identity_of(authority, "teamb")
    text = {"key": other.key, "certificate": other.certificate, "authorities": other.key}[part]
    file.write(structs.replace(identity, **{part: text if content == "another" else content}))
    with pytest.raises(NotJoined, match="damaged"):
        file.read()


def test_who_reads_meanwhile_gets_the_old_one_or_the_new_one(
    file: IdentityFile, identity: Identity, authority: Authority
) -> None:
    """A command, or another instance of the host, may read while a renewal replaces it."""
    others = identity, identity_of(authority, "teamb")
    file.write(identity)
    ends = threading.Event()

    def renew() -> None:
        while not ends.is_set():
            for each in others:
                file.write(each)

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(renew)
        try:
            assert all(file.read() in others for _ in range(300))
        finally:
            ends.set()
        renewing.result()


def test_a_full_disk_leaves_the_one_before(
    file: IdentityFile, identity: Identity, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one that passes, so a renewal is tried again."""
    file.write(identity)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nomaflow_host.identity.files.write_private", full)
    with pytest.raises(StateUnwritable, match="no space left"):
        file.write(identity_of(authority, "teamb"))
    assert file.read() == identity


def test_a_thousand_renewals_are_spread(identity: Identity) -> None:
    """Of 1,000 hosts that joined in the same second, no more than 30 renew in the same 1 % of three days."""
    from secrets import randbits

    life = identity.expires_at - identity.issued_at
    dues = [due_at(structs.replace(identity, serial=f"{randbits(159):x}")) - identity.issued_at for _ in range(1000)]
    assert min(dues) >= 0.61 * life
    assert max(dues) <= 0.72 * life
    hundredths = [int((due / life - 0.6) * 1000) for due in dues]
    assert max(hundredths.count(each) for each in set(hundredths)) <= 30


def test_new_addresses_leave_a_certificate_that_was_renewed_meanwhile(
    file: IdentityFile, identity: Identity, authority: Authority
) -> None:
    """They are written beside what is there now."""
    file.write(identity)
    renewed = identity_of(authority, "teamb")
    file.write(renewed)
    file.keep_addresses(("tls://a:1", "tls://b:1"))
    assert file.read() == structs.replace(renewed, addresses=("tls://a:1", "tls://b:1"))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
