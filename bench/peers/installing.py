"""Installs the peers into ``.peers`` below the project: one virtual environment, and one folder of npm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.known import HERE, Peer
from postgres_server import binaries

__all__ = ["FOLDER", "why_not"]

FOLDER = HERE.parents[1] / ".peers"
_PATIENCE = 600.0


def why_not(peers: Sequence[Peer]) -> dict[str, str]:
    """Install what these peers need, and return by name why some cannot be measured here."""
    reasons = {one: _language(one) for one in {peer.language for peer in peers}}
    reasons |= {one: _service(one) for one in {peer.service for peer in peers}}
    return {peer.name: why for peer in peers if (why := reasons[peer.language] or reasons[peer.service])}


def _language(name: str) -> str:
    return _python() if name == "python" else _node()


def _python() -> str:
    pinned, kept = HERE / "requirements.txt", FOLDER / "requirements.txt"
    venv = FOLDER / "venv"
    if _same(pinned, kept):
        return ""
    return _run([sys.executable, "-m", "venv", str(venv)]) or _run(
        [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)],
        keep=(pinned, kept),
    )


def _node() -> str:
    pinned, kept = HERE / "package.json", FOLDER / "package.json"
    if not shutil.which("npm") or not shutil.which("node"):
        return "node and npm are not on the path; install Node.js 20 or newer"
    if _same(pinned, kept) and (FOLDER / "node_modules").is_dir():
        return ""
    FOLDER.mkdir(exist_ok=True)
    shutil.copy(pinned, kept)
    failed = _run(["npm", "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--loglevel", "error"])
    if failed:
        kept.unlink()
    return failed


def _service(name: str) -> str:
    if name == "redis" and not shutil.which("redis-server"):
        return "redis-server is not on the path; on Debian: apt-get install redis-server"
    if name == "postgresql":
        try:
            binaries()
        except RuntimeError as error:
            return str(error)
    return ""


def _same(pinned: Path, kept: Path) -> bool:
    return kept.exists() and kept.read_bytes() == pinned.read_bytes()


def _run(command: Sequence[str], *, keep: tuple[Path, Path] | None = None) -> str:
    """Run a command and return the last line of what it says against it; copy the pins once it has succeeded."""
    print(f"installing: {' '.join(command[:3])} …", flush=True)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return f"not installed: {Path(command[0]).name} took longer than {_PATIENCE:.0f} s"
    if done.returncode:
        return f"not installed: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    if keep:
        shutil.copy(*keep)
    return ""
