"""A kernel's settings: ``[kernel]`` of nomaflow.toml, overridden by NOMAFLOW_KERNEL_* variables, then by flags."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from msgspec import Struct, field

from nomaflow_api.addresses import split_addresses
from nomaflow_api.option_parser import OptionParser
from nomaflow_project.models.settings_file import AccessSection, KernelSection
from nomaflow_project.models.settings_rules import kernel_problems, unknown_tables
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.lines import with_lines
from nomaflow_project.reading.misspelt_names import wrong_variable
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.project_files import ProjectFiles, read_section
from nomaflow_project.reading.store_password import open_store_password
from nomaflow_telemetry.metrics_address import MetricsPlace

_FLAGS: Sequence[tuple[str, str, str]] = (
    ("--address", "listen", "unix:PATH or tls://HOST:PORT, for clients; several separated by commas"),
    ("--listen-hosts", "listen_hosts", "tls://HOST:PORT for hosts; default the port after that of clients"),
    ("--listen-join", "listen_join", "tls://HOST:PORT for join strings; default the port after that of hosts"),
    ("--store", "store", "sqlite:///PATH or postgresql+asyncpg://…"),
    ("--jobs", "jobs_file", "a jobs.toml that the kernel itself reads"),
    ("--tls-cert", "tls_cert", "certificate for clients and joining, PEM; default one of the kernel's own authority"),
    ("--tls-key", "tls_key", "the certificate's key, PEM, readable by this user only"),
    ("--tls-ca", "tls_ca", "authorities that vouch for the certificate, PEM, for join strings"),
    ("--advertise", "advertise", "where others reach this kernel; default where it listens"),
    ("--advertise-hosts", "advertise_hosts", "where hosts reach it; default the same names at its ports for hosts"),
    ("--leader-ttl-seconds", "leader_ttl_seconds", "silence after which another kernel on the same PostgreSQL leads"),
    ("--heartbeat-seconds", "heartbeat_seconds", "how often hosts show that they are alive"),
    ("--lease-seconds", "lease_seconds", "silence after which a host gets no new work"),
    ("--lost-after-seconds", "lost_after_seconds", "silence after which attempts of a host are LOST"),
    ("--drain-seconds", "drain_seconds", "time to finish open calls when stopping"),
    ("--log-level", "log_level", "lowest level of the kernel's own log"),
    ("--log-format", "log_format", "text or json"),
    ("--metrics", "metrics", "IP:PORT or unix:PATH to serve metrics on"),
)
"""Flag, key of [kernel], help. The variable's name is NOMAFLOW_KERNEL_ and the flag's name."""

_FILE_PLACE = Place(SETTINGS_FILE, "kernel")
_Section = TypeVar("_Section", KernelSection, AccessSection)


class SettingsError(Exception):
    """Raised when the settings cannot be used; the text is for a terminal."""


class KernelSettings(Struct, frozen=True, kw_only=True):
    """All settings of a kernel. Paths are absolute.

    :param kernel: ``[kernel]``, with the variables and flags over it, as given
    :param addresses: addresses to listen on for the owner and for clients; empty means the project's Unix socket
    :param hosts_addresses: addresses to listen on for hosts; empty means the ports after those of clients
    :param join_addresses: addresses to listen on for joining; empty means the ports after those of hosts
    :param store_url: empty means SQLite in the state directory
    :param tls_cert: certificate for clients and joining; None means one of the kernel's own authority
    :param tls_key: its key; given if and only if the certificate is
    :param tls_ca: authorities that vouch for it; None if callers' systems know them
    :param expect_host: whether a host is starting along with this kernel
    :param access: roles and quotas of callers over TCP
    :param advertised: addresses at which others reach this kernel; empty means those it listens on
    :param advertised_hosts: the same for hosts; empty means the names of those at its ports for hosts
    """

    project: Path
    kernel: KernelSection = field(default_factory=KernelSection)
    addresses: tuple[str, ...] = ()
    hosts_addresses: tuple[str, ...] = ()
    join_addresses: tuple[str, ...] = ()
    store_url: str = ""
    jobs_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    advertised: tuple[str, ...] = ()
    advertised_hosts: tuple[str, ...] = ()
    metrics: MetricsPlace = field(default_factory=MetricsPlace)
    reflection: bool = False
    expect_host: bool = False
    access: AccessSection = field(default_factory=AccessSection)

    @property
    def state_dir(self) -> Path:
        """The directory of all the kernel's files."""
        return self.project / ".nomaflow"

    @property
    def store(self) -> str:
        """The store's URL."""
        return self.store_url or f"sqlite:///{_in_url(self.state_dir / 'kernel.db')}"


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> KernelSettings:
    """Return the settings from a command line, an environment and the project's nomaflow.toml.

    :raises SettingsError: if the project or a setting cannot be used
    """
    flags = _parser().parse(argv)
    project = Path(flags.project or environ.get("NOMAFLOW_KERNEL_PROJECT") or ".").absolute()
    variables = {key: environ[_variable(flag)] for flag, key, _ in _FLAGS if environ.get(_variable(flag))}
    _refuse_wrong(environ)
    given = {key: getattr(flags, key) for _, key, _ in _FLAGS if getattr(flags, key) is not None}
    section, access = _sections(project, environ)
    places: dict[str, Place] = {}
    for layer, place in ((variables, Place("NOMAFLOW_KERNEL_* variables")), (given, Place("command line"))):
        over = _usable(*read_section(KernelSection, layer, place))
        section = replace(section, **{name: getattr(over, name) for name in layer})
        places |= dict.fromkeys(layer, place)
    _usable(section, with_lines(kernel_problems(section, lambda key: places.get(key, _FILE_PLACE) / key), project))
    return KernelSettings(
        project=project,
        kernel=section,
        addresses=split_addresses(section.listen),
        hosts_addresses=split_addresses(section.listen_hosts),
        join_addresses=split_addresses(section.listen_join),
        store_url=store_url(section.store, project),
        jobs_file=project / section.jobs_file if section.jobs_file else None,
        tls_cert=project / section.tls_cert if section.tls_cert else None,
        tls_key=project / section.tls_key if section.tls_key else None,
        tls_ca=project / section.tls_ca if section.tls_ca else None,
        advertised=split_addresses(section.advertise),
        advertised_hosts=split_addresses(section.advertise_hosts),
        metrics=MetricsPlace.of(project, section),
        access=access,
        expect_host=flags.expect_host,
        reflection=flags.reflection or environ.get("NOMAFLOW_REFLECTION") == "1",
    )


def _refuse_wrong(environ: Mapping[str, str]) -> None:
    """Refuse a variable that sets nothing.

    :raises SettingsError: if one is given
    """
    wrong = wrong_variable(
        environ,
        prefix="NOMAFLOW_KERNEL_",
        keys=(each.name for each in fields(KernelSection)),
        variables={key: _variable(flag) for flag, key, _ in _FLAGS},
        others=("NOMAFLOW_KERNEL_PROJECT",),
        replaced=KernelSection.REPLACED,
    )
    if wrong:
        raise SettingsError(wrong)


def store_url(url: str, project: Path) -> str:
    """Return the URL with a relative file path resolved against the project, wherever the process was started."""
    scheme, found, path = url.partition(":///")
    if not found or not scheme.startswith("sqlite") or path.startswith(("/", ":memory:")) or not path:
        return url
    return f"{scheme}:///{_in_url(project)}/{path}"


def _in_url(path: Path) -> str:
    """Return a path as written in a URL: text after a question mark would be options."""
    return quote(os.fsencode(path))


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="nomaflow kernel",
        description="Run the kernel of a project: scheduling, history and cancellation, over gRPC.",
        epilog="`nomaflow kernel DIR` is short for `nomaflow kernel --project DIR`.",
    )
    parser.add_argument("--project", metavar="DIR", help="the project's directory; by default the working directory")
    for flag, key, text in _FLAGS:
        parser.add_argument(flag, dest=key, help=f"{text} [{_variable(flag)}]")
    parser.add_argument(
        "--reflection", action="store_true", help="serve the gRPC schema to clients [NOMAFLOW_REFLECTION=1]"
    )
    parser.add_argument(
        "--expect-host",
        action="store_true",
        help="a host is being started too: for 30 s, triggers of unknown jobs wait for it as for one that loads",
    )
    return parser


def _variable(flag: str) -> str:
    return "NOMAFLOW_KERNEL_" + flag.removeprefix("--").replace("-", "_").upper()


def _sections(project: Path, environ: Mapping[str, str]) -> tuple[KernelSection, AccessSection]:
    files = ProjectFiles(project, environ)
    if problem := files.error or open_store_password(files):
        raise SettingsError(str(problem))
    if unknown := with_lines(unknown_tables(files.settings), project):
        raise SettingsError("\n".join(map(str, unknown)))
    # Only the kernel's sections: errors in another section are not for the kernel to refuse.
    return _usable(*files.section(KernelSection, "kernel")), _usable(*files.section(AccessSection, "access"))


def _usable(section: _Section | None, problems: Sequence[Problem]) -> _Section:
    if section is None or problems:
        raise SettingsError("\n".join(map(str, problems)))
    return section
