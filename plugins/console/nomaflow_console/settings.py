"""The settings of a console: its options, and the table [console] of nomaflow.toml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nomaflow.client import AddressSource, FixedAddress, ProjectAddress

__all__ = ["EX_CONFIG", "EX_TEMPFAIL", "ConsoleSettings", "SettingsRefused"]

EX_TEMPFAIL, EX_CONFIG = 75, 78
"""Exit codes of kernel and host too: somebody else has the address; the settings cannot be used."""


class SettingsRefused(Exception):
    """Raised when a console cannot run with its settings.

    :param fix: the way out
    """

    def __init__(self, message: str, *, fix: str, exit_code: int = EX_CONFIG) -> None:
        super().__init__(f"{message}; {fix}")
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleSettings:
    """The settings of one console.

    :param project: its folder holds the console's secret
    :param listen: ``HOST:PORT``, or ``unix:PATH``; empty means 127.0.0.1:7434, else a free port
    :param address: addresses of the kernel, separated by commas; empty means the project's own kernel
    :param origin: scheme and host at which browsers see it behind a proxy, such as ``https://ops.example.org``
    :param user_header: the header in which a proxy names the person; empty means none
    """

    project: Path
    listen: str = ""
    address: str = ""
    origin: str = ""
    token: str = ""
    ca: Path | bytes | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    user_header: str = ""

    @property
    def state_folder(self) -> Path:
        """The folder of the secret, of the ended sessions, and of the file with the console's address."""
        return self.project / ".nomaflow"

    @property
    def kernel(self) -> AddressSource:
        """The addresses of the kernel, and the console's own token for it."""
        if self.address:
            return FixedAddress.of(self.address, token=self.token)
        return ProjectAddress(project=self.project, secret=self.token)

    @property
    def secure(self) -> bool:
        """True if browsers reach the console over TLS."""
        return self.tls_cert is not None or self.origin.startswith("https://")
