"""The folder of a host's identity: whole whatever happens, for its owner alone."""

from __future__ import annotations

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from certificate_authority import Authority
from host_identities import identity_of
from nomaflow_host.identity.files import Identity, IdentityFolder
from nomaflow_host.process.errors import NotJoined, StateUnwritable
from nomaflow_host.session.renewing import due_at


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def identity(authority: Authority) -> Identity:
    """Make an identity."""
    return identity_of(authority, "teamb")


@pytest.fixture
def folder(tmp_path: Path) -> IdentityFolder:
    """Return a place that holds none yet."""
    return IdentityFolder(tmp_path / ".nomaflow" / "identity")


def test_it_is_for_its_owner_alone(folder: IdentityFolder, identity: Identity) -> None:
    """Folder 0700, files 0600; a key that others can read is not used, and the error says what to do."""
    folder.write(identity)
    assert folder.read() == identity
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.folder.iterdir()}
    assert modes == dict.fromkeys(("host.key", "host.pem", "authorities.pem", "identity.json"), 0o600)
    assert stat.S_IMODE(folder.folder.stat().st_mode) == 0o700
    assert identity.key.decode() not in repr(identity)
    (folder.folder / "host.key").chmod(0o644)
    with pytest.raises(NotJoined, match="open to others") as raised:
        folder.read()
    assert "nomaflow token revoke" in raised.value.fix


def test_a_host_that_has_not_joined_is_told_how(folder: IdentityFolder) -> None:
    """There is nothing to read, and nothing is made."""
    with pytest.raises(NotJoined, match="--join FILE"):
        folder.read()
    assert not folder.exists


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "teamb"}', "\x00"])
def test_damage_is_told(folder: IdentityFolder, identity: Identity, content: str) -> None:
    """Facts that cannot be read are an error with a way out, not a traceback."""
    folder.write(identity)
    (folder.folder / "identity.json").write_text(content)
    with pytest.raises(NotJoined, match="damaged"):
        folder.read()


@pytest.mark.parametrize("name", ["host.key", "host.pem", "authorities.pem"])
@pytest.mark.parametrize("content", ["", "garbage", "another"])
def test_what_does_not_belong_together_is_not_shown(
    folder: IdentityFolder, identity: Identity, authority: Authority, name: str, content: str
) -> None:
    """An empty file of authorities must not mean those of the system, and an empty key must not end the process."""
    folder.write(identity)
    other = identity_of(authority, "teamb")
    text = {"host.key": other.key, "host.pem": other.certificate, "authorities.pem": other.key}[name]
    (folder.folder / name).write_bytes(text if content == "another" else content.encode())
    with pytest.raises(NotJoined, match="damaged"):
        folder.read()


def test_a_crash_leaves_the_old_one_or_the_new_one(
    folder: IdentityFolder, identity: Identity, authority: Authority
) -> None:
    """A draft that is not whole is passed over; between the two renames the new one counts, which is whole then."""
    draft, former = folder.folder.with_name("identity.new"), folder.folder.with_name("identity.old")
    folder.write(identity)
    draft.mkdir()
    (draft / "host.key").write_text("half")
    assert folder.read() == identity
    renewed = identity_of(authority, "teamb")
    folder.write(renewed)
    assert folder.read() == renewed
    shutil.copytree(folder.folder, former)
    (former / "authorities.pem").write_bytes(identity.authorities * 2)
    folder.folder.rename(draft)
    assert folder.read() == renewed
    shutil.rmtree(folder.folder)
    draft.mkdir()
    assert folder.read().authorities == identity.authorities * 2


def test_a_full_disk_leaves_the_one_before(
    folder: IdentityFolder, identity: Identity, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one that passes, so a renewal is tried again."""
    folder.write(identity)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nomaflow_host.identity.files.write_private", full)
    with pytest.raises(StateUnwritable, match="no space left"):
        folder.write(identity_of(authority, "teamb"))
    assert folder.read() == identity


def test_a_thousand_renewals_are_spread(identity: Identity) -> None:
    """Of 1,000 hosts that joined in the same second, no more than 30 renew in the same 1 % of three days."""
    from dataclasses import replace
    from secrets import randbits

    life = identity.expires_at - identity.issued_at
    dues = [due_at(replace(identity, serial=f"{randbits(159):x}")) - identity.issued_at for _ in range(1000)]
    assert min(dues) >= 0.61 * life
    assert max(dues) <= 0.72 * life
    hundredths = [int((due / life - 0.6) * 1000) for due in dues]
    assert max(hundredths.count(each) for each in set(hundredths)) <= 30


def test_new_addresses_leave_a_certificate_that_was_renewed_meanwhile(
    folder: IdentityFolder, identity: Identity, authority: Authority
) -> None:
    """They are written beside what is there now."""
    folder.write(identity)
    renewed = identity_of(authority, "teamb")
    folder.write(renewed)
    folder.keep_addresses(("tls://a:1", "tls://b:1"))
    assert folder.read() == replace(renewed, addresses=("tls://a:1", "tls://b:1"))
    assert stat.S_IMODE((folder.folder / "identity.json").stat().st_mode) == 0o600
