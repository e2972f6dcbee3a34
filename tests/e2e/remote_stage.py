"""A kernel at one end of a cable, for hosts at the other."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults_system import FaultSystem
from two_networks import Cable

from real_system import CLOCKS, eventually

__all__ = ["Remote", "laid", "served"]


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A kernel that listens at one end of a cable, and where a host at the other end finds it.

    :param dialed: its door for hosts
    """

    system: FaultSystem
    cable: Cable
    dialed: str

    def joining(self, host: str) -> tuple[str, ...]:
        """Return the options of a host that joins first."""
        return ("--kernel", self.dialed, "--join", str(self.system.join_file(host)))


@contextmanager
def laid(cable: Cable) -> Iterator[Remote]:
    """Lay a cable and start a kernel at its one end; stop all that is started there, and remove it."""
    root = Path(tempfile.mkdtemp(prefix="nf-"))
    with cable:
        flags = (*CLOCKS, "--address", f"unix:,{cable.listen}")
        system = FaultSystem(root=root, kernel_flags=flags, kernel_side=cable.kernel_side, forks_templates=True)
        try:
            system.start_kernel()
            system.client()
            yield Remote(system=system, cable=cable, dialed=cable.dial(lambda: served(system)["hosts"]))
        finally:
            system.close()
    shutil.rmtree(root)


def served(system: FaultSystem) -> dict[str, str]:
    """Return the addresses of the doors on TCP as the kernel's log has them."""
    eventually(lambda: "serving on" in system.log("kernel"))
    line = next(one for one in system.log("kernel").splitlines() if "serving on" in one)
    return {door: address for address, door in re.findall(r"(tls://\S+) for (\w+)", line)}
