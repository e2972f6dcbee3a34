"""A console's settings: ``[console]`` of nomaflow.toml, overridden by NOMAFLOW_CONSOLE_* variables, then by flags."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nomaflow.client import AddressSource, ClientError, FixedAddress, ProfileFolder, ProjectAddress, read_token
from nomaflow_api.addresses import has_known_form, host_and_port, is_tcp, split_addresses

if TYPE_CHECKING:
    from nomaflow_project.models.console_section import ConsoleSection

FLAGS: Sequence[tuple[str, str]] = (
    ("listen", "127.0.0.1:PORT or unix:PATH; default 127.0.0.1:7434, else a port of its own"),
    ("origin", "scheme and host at which browsers see it behind a proxy: https://ops.example.org"),
    ("tls-cert", "its certificate, PEM"),
    ("tls-key", "the certificate's key, PEM"),
    ("user-header", "header in which a proxy names the person"),
    ("log-level", "lowest level of the console's own log"),
    ("log-format", "text or json"),
    ("address", "the kernel's: unix:PATH or tls://HOST:PORT, several with commas; default the project's own kernel"),
    ("token-file", "file of the console's own token for a kernel on TCP"),
    ("ca", "authorities that vouch for a kernel on TCP, PEM"),
    ("profile", "use address, token and authorities of this login; see nomaflow login"),
)
"""Flag and help. The variable is NOMAFLOW_CONSOLE_ and the flag's name; the first seven are keys of [console]."""
_KEYS = tuple(flag.replace("-", "_") for flag, _ in FLAGS[:7])


class SettingsRefused(Exception):
    """Raised when a console cannot run with its settings.

    :param fix: the way out; empty if the message has it
    :param exit_code: of the process; 1 where a new start may help, as of kernel and host
    """

    def __init__(self, message: str, *, fix: str = "", exit_code: int = os.EX_CONFIG) -> None:
        super().__init__(f"{message}; {fix}" if fix else message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleSettings:
    """The settings of one console.

    :param project: its folder holds the console's secret
    :param listen: ``HOST:PORT``, or ``unix:`` and an absolute path; empty means 127.0.0.1:7434, else its own port
    :param address: addresses of the kernel, separated by commas; empty means the project's own kernel
    :param origin: scheme and host at which browsers see it behind a proxy, such as ``https://ops.example.org``
    :param token: the console's own token for a kernel on TCP; empty means none
    :param user_header: the header in which a proxy names the person, in lower case; empty means none
    """

    project: Path
    listen: str = ""
    address: str = ""
    origin: str = ""
    token: str = field(default="", repr=False)
    ca: Path | bytes | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    user_header: str = ""
    log_level: str = "INFO"
    log_format: str = "text"

    @property
    def state_folder(self) -> Path:
        """The folder of the secret, of the ended sessions, and of the file with the console's address."""
        return self.project / ".nomaflow"

    @property
    def told_address(self) -> Path:
        """The file in which a running console says where it is."""
        return self.state_folder / "console"

    @property
    def kernel(self) -> AddressSource:
        """The addresses of the kernel, and the console's own token for it."""
        if self.address:
            return FixedAddress(address=self.address, token=self.token)
        return ProjectAddress(project=self.project, token=self.token)

    @property
    def secure(self) -> bool:
        """True if browsers reach the console over TLS."""
        return self.tls_cert is not None or self.origin.startswith("https://")

    @property
    def takes_tokens(self) -> bool:
        """True if a token says something to the kernel: on its owner's socket whoever calls is the owner."""
        return bool(self.address) and all(map(is_tcp, split_addresses(self.address)))

    @property
    def has_access(self) -> bool:
        """True if the console may call the kernel for those who have no token."""
        return not self.takes_tokens or bool(self.token)


def read_settings(project: Path, flags: Mapping[str, str], environ: Mapping[str, str]) -> ConsoleSettings:
    """Return the settings from the flags of a command line, an environment and the project's nomaflow.toml.

    :param flags: by name, without dashes at its front; empty ones count as not given
    :raises SettingsRefused: if a setting cannot be used
    """
    project = project.absolute()
    variables = {flag: environ.get("NOMAFLOW_CONSOLE_" + flag.replace("-", "_").upper(), "") for flag, _ in FLAGS}
    given = {flag.replace("-", "_"): flags.get(flag) or variables[flag] for flag, _ in FLAGS}
    section = _section(project, {name: given[name] for name in _KEYS if given[name]}, environ)
    wanted = ConsoleSettings(
        project=project,
        listen=_listen(section.listen, project),
        origin=_origin(section.origin),
        tls_cert=project / section.tls_cert if section.tls_cert else None,
        tls_key=project / section.tls_key if section.tls_key else None,
        user_header=section.user_header.lower(),
        log_level=section.log_level,
        log_format=section.log_format,
    )
    _check_tls(wanted)
    _check_reach(wanted)
    return _with_kernel(wanted, given, environ)


def _section(project: Path, over: Mapping[str, str], environ: Mapping[str, str]) -> ConsoleSection:
    """Return [console] with what the command line and the environment say."""
    from nomaflow_project.models.console_section import ConsoleSection
    from nomaflow_project.reading.problems import Place
    from nomaflow_project.reading.project_files import ProjectFiles, read_section

    files = ProjectFiles(project, environ)
    if files.error is not None:
        raise SettingsRefused(str(files.error))
    table = files.table("console")
    section = ConsoleSection()
    for layer, place in ((table, Place("nomaflow.toml") / "console"), (dict(over), Place("command line"))):
        found, problems = read_section(ConsoleSection, layer, place)
        if found is None or problems:
            raise SettingsRefused("\n".join(map(str, problems)))
        names = layer if isinstance(layer, dict) else ()
        section = replace(section, **{name: getattr(found, name) for name in names})
    return section


def _listen(text: str, project: Path) -> str:
    if not text:
        return ""
    if text.startswith("unix:"):
        return f"unix:{project / text.removeprefix('unix:')}"
    place = host_and_port(text)
    if place is None:
        raise SettingsRefused(
            f"the console's address {text!r} is neither HOST:PORT nor unix:PATH", fix="write 127.0.0.1:7434, say"
        )
    return f"{place[0]}:{place[1]}"


def _origin(text: str) -> str:
    if not text:
        return ""
    found = urlsplit(text)
    if found.scheme not in ("http", "https") or not found.netloc or found.path.strip("/") or "@" in found.netloc:
        raise SettingsRefused(
            f"the console's origin {text!r} is not a scheme and a host", fix="write https://ops.example.org, say"
        )
    return f"{found.scheme}://{found.netloc.lower()}"


def _check_tls(wanted: ConsoleSettings) -> None:
    if (wanted.tls_cert is None) != (wanted.tls_key is None):
        raise SettingsRefused("one of tls_cert and tls_key is given, and TLS needs both", fix="give the other one too")
    for file in filter(None, (wanted.tls_cert, wanted.tls_key)):
        if not file.is_file():
            raise SettingsRefused(f"there is no file {str(file)!r}", fix="correct tls_cert and tls_key")


def _check_reach(wanted: ConsoleSettings) -> None:
    """Refuse an address at which the network could read sessions."""
    if not wanted.listen or wanted.listen.startswith("unix:"):
        return
    host = wanted.listen.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
        inside, any_host = address.is_loopback, address.is_unspecified
    except ValueError:
        inside, any_host = host == "localhost", False
    if any_host and not wanted.origin:
        raise SettingsRefused(
            f"{wanted.listen} is every address of the machine, and browsers need one name for the console",
            fix="name it: --origin https://HOST:PORT",
        )
    if not inside and not wanted.secure:
        raise SettingsRefused(
            f"the console would listen at {wanted.listen} without TLS, where the network can read its sessions",
            fix="listen at 127.0.0.1 or unix:PATH; give --tls-cert and --tls-key; or, behind a proxy with TLS, "
            "--origin https://HOST",
        )


def _with_kernel(wanted: ConsoleSettings, given: Mapping[str, str], environ: Mapping[str, str]) -> ConsoleSettings:
    """Return the settings with the kernel's address, and the console's access to it."""
    try:
        if given["profile"]:
            profile = ProfileFolder.of(environ).read(given["profile"])
            wanted = replace(wanted, address=",".join(profile.addresses), token=profile.token, ca=profile.ca)
        if given["token_file"]:
            wanted = replace(wanted, token=read_token(Path(given["token_file"])))
    except ClientError as error:
        raise SettingsRefused(error.message, fix=error.fix) from None
    for address in split_addresses(given["address"]):
        if not has_known_form(address):
            raise SettingsRefused(
                f"the kernel's address {address!r} has no known form", fix="write unix:/path or tls://HOST:PORT"
            )
    wanted = replace(wanted, address=given["address"] or wanted.address)
    return replace(wanted, ca=Path(given["ca"])) if given["ca"] else wanted
