"""The folder of a host's identity: written as a whole, read at each connection."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from nomaflow_api.private_file import mode_open_to_others, sync, write_private
from nomaflow_host.process.errors import NotJoined, StateUnwritable
from nomaflow_project.reading.regular_files import reason_of

_KEY, _CERTIFICATE, _AUTHORITIES, _FACTS = "host.key", "host.pem", "authorities.pem", "identity.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """The certificate that a host shows to a kernel, and the authorities that it trusts.

    :param host: the name that the certificate proves
    :param kernel_id: the random id of the history of the kernel that it has joined
    :param addresses: of that kernel's hosts' door, ``tls://HOST:PORT`` each
    :param serial: the certificate's number, hexadecimal
    :param issued_at: seconds since the epoch; ``expires_at`` likewise
    :param joined_with: SHA-256 of the join string, hexadecimal
    :param joined_at: of that kernel's joining door, ``tls://HOST:PORT`` each
    :param joining_authorities: the authorities that vouch for the joining door, PEM; empty if the system knows them
    :param instance: the one instance that the certificate is for; empty for a whole host's, which is renewed
    :param key: PEM; ``certificate``, with those between it and its root, and ``authorities`` likewise
    """

    host: str
    kernel_id: str
    addresses: tuple[str, ...]
    serial: str
    issued_at: int
    expires_at: int
    joined_with: str
    joined_at: tuple[str, ...] = ()
    joining_authorities: str = ""
    instance: str = ""
    key: bytes = field(default=b"", repr=False)
    certificate: bytes = b""
    authorities: bytes = b""

    @property
    def good_until(self) -> str:
        """The end of the certificate, for a person."""
        return datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

    def __str__(self) -> str:
        return f"the certificate {self.serial} of host {self.host}, good until {self.good_until}"


class IdentityFolder:
    """Reads and replaces a host's identity. A crash leaves the old one or the new one, whole.

    :param folder: ``DIR/.nomaflow/identity``; need not exist
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._draft = folder.with_name(f"{folder.name}.new")
        self._former = folder.with_name(f"{folder.name}.old")

    @property
    def exists(self) -> bool:
        """True if the host has joined a kernel."""
        self._recover()
        return self.folder.exists()

    def read(self) -> Identity:
        """Return the identity as it is now.

        :raises NotJoined: if there is none, or it cannot be used
        """
        self._recover()
        try:
            facts = msgspec.json.decode((self.folder / _FACTS).read_bytes(), type=Identity)
            self._check_mode(self.folder / _KEY)
            self._check_contents()
            return replace(
                facts,
                key=(self.folder / _KEY).read_bytes(),
                certificate=(self.folder / _CERTIFICATE).read_bytes(),
                authorities=(self.folder / _AUTHORITIES).read_bytes(),
            )
        except FileNotFoundError:
            raise NotJoined("this host has not joined a kernel") from None
        except (ssl.SSLError, ValueError, msgspec.MsgspecError):
            raise NotJoined(f"this host's identity in {str(self.folder)!r} is damaged") from None
        except OSError as error:
            why = f"this host's identity in {str(self.folder)!r} cannot be read: {reason_of(error)}"
            raise NotJoined(why) from None

    def write(self, identity: Identity) -> None:
        """Keep an identity in place of the previous one.

        :raises StateUnwritable: if it cannot be written; the previous one is still there then
        """
        facts = asdict(identity)
        contents = {
            _KEY: facts.pop("key"),
            _CERTIFICATE: facts.pop("certificate"),
            _AUTHORITIES: facts.pop("authorities"),
            _FACTS: json.dumps(facts, indent=1).encode(),  # last: a draft that has it is whole
        }
        try:
            self.folder.parent.mkdir(mode=0o700, exist_ok=True)
            with self._alone():
                self._replace(contents)
        except OSError as error:
            raise StateUnwritable(self.folder, error) from None

    def keep_addresses(self, addresses: Sequence[str]) -> None:
        """Replace the kernel's addresses. The rest stays as it is now: another process may have renewed it.

        :raises StateUnwritable: if they cannot be written; the previous ones are still there then
        """
        file = self.folder / _FACTS
        try:
            with self._alone():
                facts = {**json.loads(file.read_bytes()), "addresses": addresses}
                write_private(file, json.dumps(facts, indent=1).encode())
        except OSError as error:
            raise StateUnwritable(self.folder, error) from None

    def _replace(self, contents: Mapping[str, bytes]) -> None:
        self._finish()
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(mode=0o700)
        self._draft.chmod(0o700)
        for name, content in contents.items():
            write_private(self._draft / name, content)
        shutil.rmtree(self._former, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(self._former)
        self._draft.rename(self.folder)
        sync(self.folder.parent)
        shutil.rmtree(self._former, ignore_errors=True)

    def _recover(self) -> None:
        """Finish a replacement that a crash has interrupted, or wait for one that another process is making."""
        if self.folder.exists() or not (self._draft.exists() or self._former.exists()):
            return
        with contextlib.suppress(OSError), self._alone():
            self._finish()

    def _finish(self) -> None:
        for found in (self._draft, self._former):
            if not self.folder.exists() and (found / _FACTS).exists():
                found.rename(self.folder)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes, such as a host that runs or one that joins, from replacing the identity meanwhile."""
        number = os.open(
            self.folder.with_name(f"{self.folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)

    def _check_contents(self) -> None:
        """Check key, certificate and authorities: without them gRPC would use the system's, or end the process.

        :raises ssl.SSLError: if they are not what they should be, or do not belong together
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(self.folder / _CERTIFICATE, self.folder / _KEY, password=lambda: "")
        context.load_verify_locations(self.folder / _AUTHORITIES)

    def _check_mode(self, key: Path) -> None:
        if mode := mode_open_to_others(key):
            raise NotJoined(
                f"the key {str(key)!r} is open to others (mode {mode}), who can attach as this host",
                fix=f"`nomaflow token revoke host:NAME` on the kernel's machine, then join again; "
                f"if nobody has read it: chmod 600 {key}",
            )
