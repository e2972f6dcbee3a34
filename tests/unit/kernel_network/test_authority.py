"""The kernel's own authority: what it signs is trusted, and replacing it keeps everybody connected."""

from __future__ import annotations

import ipaddress
import logging
import re
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from nomaflow_api.join_string import certificates_in
from nomaflow_kernel.network.authority import Authority
from nomaflow_kernel.network.certificates import CertificateRefused
from nomaflow_kernel.network.host_proofs import SigningRefused, host_of

DAY = 86_400
_REQUESTS = Path(__file__).with_name("unusual_curves.pem").read_text(encoding="ascii")
_UNUSUAL = dict(re.findall(r"^(\w+)\n(-----BEGIN.*?-----END CERTIFICATE REQUEST-----\n)", _REQUESTS, re.M | re.S))
"""Signing requests by the curve of their key."""
_PURPOSE = {True: ssl.Purpose.CLIENT_AUTH, False: ssl.Purpose.SERVER_AUTH}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pki"


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder, names=("kernel.example.org", "192.0.2.7", "0.0.0.0"))


def request_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, name: str = "host.example") -> str:
    """Return a signing request that names what it likes."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("nomaflow:host:other"), x509.DNSName(name)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def names_of(chain_pem: str) -> list[x509.GeneralName]:
    found = x509.load_pem_x509_certificate(chain_pem.encode())
    return list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def greets(authority: Authority, trusted_pem: str, *, name: str = "kernel.example.org") -> None:
    """Shake hands with the doors' pair as a caller that trusts some authorities; raise if it does not trust it."""
    serving, calling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=trusted_pem)
    calling.verify_flags |= ssl.VERIFY_X509_STRICT  # the default of Python 3.13
    serving.load_cert_chain(authority.cert, authority.key)
    shake(serving, calling, name)


def shake(serving: ssl.SSLContext, calling: ssl.SSLContext, name: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = calling.wrap_bio(down, up, server_hostname=name)
    server = serving.wrap_bio(up, down, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_first_use_makes_files_that_nobody_else_can_read(authority: Authority, folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {each.name for each in folder.iterdir()} == {"authority.pem", "authorities.pem", "server.pem", "server.key"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert authority.fingerprint.startswith("sha256:")
    assert timedelta(days=3650) < authority.expires_at - datetime.now(UTC) < timedelta(days=3653)


def test_the_doors_are_known_by_the_names_that_others_dial(authority: Authority) -> None:
    names = names_of(authority.cert.read_text())
    assert {x509.DNSName("kernel.example.org"), x509.DNSName("localhost")} <= set(names)
    for number in ("192.0.2.7", "127.0.0.1", "::1"):
        assert x509.IPAddress(ipaddress.ip_address(number)) in names
    assert x509.IPAddress(ipaddress.ip_address("0.0.0.0")) not in names
    greets(authority, authority.own_pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        greets(authority, authority.own_pem, name="elsewhere.example.org")


def test_the_next_start_finds_everything_as_it_was(authority: Authority, folder: Path) -> None:
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    again = Authority(folder, names=("kernel.example.org", "192.0.2.7"))
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
    assert again.fingerprint == authority.fingerprint


def test_another_name_to_dial_gets_another_certificate_of_the_same_authority(
    authority: Authority, folder: Path
) -> None:
    again = Authority(folder, names=("new.example.org",))
    assert again.fingerprint == authority.fingerprint
    greets(again, authority.own_pem, name="new.example.org")


def test_a_certificate_is_renewed_once_two_thirds_of_its_time_are_over(folder: Path) -> None:
    clock = Clock()
    authority = Authority(folder, now=clock)
    first = authority.cert.read_bytes()
    clock.seconds += 59 * DAY
    authority.renew_if_due()
    assert authority.cert.read_bytes() == first
    clock.seconds += 2 * DAY
    authority.renew_if_due()
    assert authority.cert.read_bytes() != first
    assert x509.load_pem_x509_certificate(authority.cert.read_bytes()).not_valid_after_utc.timestamp() == pytest.approx(
        clock.seconds + 90 * DAY, abs=2
    )


def test_a_host_gets_the_name_that_it_is_given_and_no_other(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signed = authority.sign_host(request_of(key), "teamb")
    assert names_of(signed.chain_pem) == [x509.UniformResourceIdentifier("nomaflow:host:teamb")]
    found = x509.load_pem_x509_certificate(signed.chain_pem.encode())
    assert found.public_key() == key.public_key()
    assert host_of(signed.chain_pem.encode()) == ("teamb", signed.serial)
    assert found.not_valid_after_utc.timestamp() == signed.not_after_us / 1e6
    assert timedelta(days=29) < found.not_valid_after_utc - datetime.now(UTC) < timedelta(days=31)
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.own_pem.encode()))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda one: one.name)
def test_a_key_of_a_usual_curve_is_signed(authority: Authority, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    found = x509.load_pem_x509_certificate(authority.sign_host(request_of(key), "teamb").chain_pem.encode())
    assert found.public_key() == key.public_key()


@pytest.mark.parametrize("curve", ["secp192r1", "secp224r1", "secp256k1", "brainpoolP256r1"])
def test_a_key_of_a_weak_or_unusual_curve_is_refused(authority: Authority, curve: str) -> None:
    """Requests made elsewhere: an OpenSSL that does not know a curve cannot read them."""
    csr = _UNUSUAL[curve]
    for use in (authority.check_request, lambda one: authority.sign_host(one, "teamb")):
        with pytest.raises(SigningRefused, match=r"not of an accepted kind|cannot be read; expected PEM"):
            use(csr)


def test_a_host_whose_clock_is_a_day_behind_finds_its_certificate_valid(authority: Authority) -> None:
    signed = authority.sign_host(request_of(ec.generate_private_key(ec.SECP256R1())), "teamb")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for pem in (signed.chain_pem, authority.own_pem, authority.cert.read_text()):
        assert x509.load_pem_x509_certificate(pem.encode()).not_valid_before_utc < yesterday


def test_a_host_cannot_pose_as_the_kernel_with_its_certificate(authority: Authority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pair = tmp_path / "host.pem"
    pair.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + authority.sign_host(request_of(key), "teamb").chain_pem.encode()
    )
    serving, calling = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=authority.own_pem)
    serving.load_cert_chain(pair)
    calling.check_hostname = False
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable certificate purpose|unsupported"):
        shake(serving, calling, "teamb")


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_signing_request_is_refused(authority: Authority, text: str) -> None:
    with pytest.raises(SigningRefused):
        authority.sign_host(text, "teamb")


def test_a_request_with_the_key_of_somebody_else_is_refused(authority: Authority) -> None:
    """The signature proves that the asker has the key: a changed key does not fit it."""
    mine, theirs = (request_of(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    der = bytearray(x509.load_pem_x509_csr(mine.encode()).public_bytes(serialization.Encoding.DER))
    old, new = (
        x509.load_pem_x509_csr(each.encode())
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for each in (mine, theirs)
    )
    forged = x509.load_der_x509_csr(bytes(der).replace(old, new)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(SigningRefused, match="not signed with its own key"):
        authority.sign_host(forged, "teamb")


def test_a_weak_key_and_an_endless_request_are_refused(authority: Authority) -> None:
    with pytest.raises(SigningRefused, match="not of an accepted kind"):
        authority.sign_host(request_of(rsa.generate_private_key(65537, 1024)), "teamb")
    with pytest.raises(SigningRefused, match="more than"):
        authority.sign_host("x" * 20_000, "teamb")


def test_a_replaced_authority_is_trusted_by_those_who_know_only_an_older_one(
    authority: Authority, folder: Path
) -> None:
    first = authority.own_pem
    authority.replace()
    second = authority.own_pem
    authority.replace()
    assert len({first, second, authority.own_pem}) == 3
    for trusted in (first, second, authority.own_pem, authority.authorities_pem):
        greets(authority, trusted)
    again = Authority(folder, names=("kernel.example.org", "192.0.2.7"))
    assert again.authorities_pem == authority.authorities_pem
    for trusted in (first, second, again.own_pem):
        greets(again, trusted)


def test_a_repeated_replacement_is_one(authority: Authority, folder: Path) -> None:
    """The answer of the first may be lost, or its last file unwritten; also after a restart and a later replacement."""
    before = authority.authorities_pem
    authority.replace("r1")
    made = authority.authorities_pem
    assert made.endswith(before)
    assert made != before
    (folder / "authorities.pem").unlink()
    authority.cert.unlink()
    authority = Authority(folder, names=("kernel.example.org",))
    authority.cert.unlink()
    authority.replace("r1")
    assert authority.authorities_pem == made == (folder / "authorities.pem").read_text()
    greets(authority, before)
    authority.replace("r2")
    later = authority.authorities_pem
    authority.replace("r1")
    assert authority.authorities_pem == later != made
    authority.replace()
    authority.replace()
    assert len(certificates_in(authority.authorities_pem)) == 5


def test_a_handshake_stays_small_however_often_the_authority_is_replaced(authority: Authority) -> None:
    """Eight replaced authorities are still trusted; each more would be a certificate in every handshake."""
    for _ in range(12):
        authority.replace()
    assert len(certificates_in(authority.authorities_pem)) == 9
    assert len(certificates_in(authority.cert.read_text())) == 9


def test_the_key_of_a_replaced_authority_is_gone(authority: Authority, folder: Path) -> None:
    before = (folder / "authority.pem").read_text().partition("-----END PRIVATE KEY-----")[0]
    authority.replace()
    assert all(before not in each.read_text() for each in folder.iterdir())


def test_a_certificate_of_before_the_replacement_is_good_until_it_ends(authority: Authority) -> None:
    """Its issuer is still among the authorities that the hosts' door trusts."""
    old = authority.sign_host(request_of(ec.generate_private_key(ec.SECP256R1())), "teamb")
    authority.replace()
    new = authority.sign_host(request_of(ec.generate_private_key(ec.SECP256R1())), "teamb")
    trusted = x509.load_pem_x509_certificates(authority.authorities_pem.encode())
    for signed in (old, new):
        found = x509.load_pem_x509_certificate(signed.chain_pem.encode())
        assert sum(found.issuer == each.subject for each in trusted) == 1


def test_a_crash_that_left_half_a_pair_is_mended_at_the_next_start(authority: Authority, folder: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    authority.key.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    again = Authority(folder, names=("kernel.example.org", "192.0.2.7"))
    greets(again, authority.own_pem)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.write_text("x"), "does not hold a key"),
        (lambda file: file.write_text(file.read_text().partition("-----BEGIN CERT")[0]), "does not hold a key"),
        (lambda file: file.chmod(0o644), "chmod 600"),
    ],
)
def test_a_damaged_authority_is_named_and_never_replaced_by_itself(
    authority: Authority, folder: Path, spoil: object, said: str
) -> None:
    """A new authority would shut every host out, so that is left to a person."""
    assert callable(spoil)
    file = folder / "authority.pem"
    spoil(file)
    before = file.read_bytes()
    with pytest.raises(CertificateRefused, match=said):
        Authority(folder)
    assert file.read_bytes() == before


def test_an_authority_that_ends_within_half_a_year_is_mentioned(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    Authority(folder)
    clock = Clock()
    clock.seconds += 3_500 * DAY
    with caplog.at_level(logging.WARNING):
        Authority(folder, now=clock)
    assert "nomaflow pki replace" in caplog.text


def test_a_certificate_that_names_no_host_or_two_is_nobody(authority: Authority) -> None:
    assert host_of(b"") is None
    assert host_of(authority.cert.read_bytes()) is None
    assert host_of(authority.own_pem.encode()) is None
