"""``python -m nomaflow_host``: a plugin host's main process."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from nomaflow_host.errors import HostError
from nomaflow_host.logs import setup_logging
from nomaflow_host.project import read_toml

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a host and return its exit code."""
    options = _parser().parse_args(arguments)
    # gRPC's core would write its own lines to stderr whenever a kernel goes away; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        from nomaflow_host.app import HostOptions, print_manifest, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nomaflow"):
            raise
        sys.stderr.write(f"nomaflow host: {error.name!r} is not installed; pip install 'nomaflow[host]'\n")
        return 78

    chosen = HostOptions(
        project=options.project,
        kernel=options.kernel,
        token_file=options.token_file,
        ca=options.ca,
        name=options.name,
        watch=options.watch,
    )
    level, form = _logging_settings(options.project)
    setup_logging(level="WARNING" if options.manifest else level, form=form)
    work = print_manifest if options.manifest else serve
    try:
        return asyncio.run(work(chosen, environ=os.environ))
    except HostError as error:
        sys.stderr.write(f"nomaflow host: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nomaflow_host", description=__doc__.partition(": ")[2])
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    parser.add_argument(
        "--kernel", default="", metavar="ADDRESS", help="unix:PATH, HOST:PORT or tls://HOST:PORT, several with commas"
    )
    parser.add_argument("--token-file", default="", metavar="FILE", help="the token to show on TCP")
    parser.add_argument("--ca", default="", metavar="FILE", help="the authorities that vouch for the kernel, PEM")
    parser.add_argument("--name", default="", help="the host's name")
    parser.add_argument("--watch", action="store_true", help="reload whenever a file is saved")
    parser.add_argument("--manifest", action="store_true", help="load the project once, print its manifest, exit")
    return parser


def _logging_settings(project: Path) -> tuple[str, str]:
    """Return level and form of the log; a file that cannot be read is the host's business, a little later."""
    tree = read_toml(project / "nomaflow.toml")
    host = tree.get("host") if isinstance(tree, dict) else None
    table = host if isinstance(host, dict) else {}
    level, form = table.get("log_level"), table.get("log_format")
    return (
        level if level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else "INFO",
        "json" if form == "json" else "text",
    )


if __name__ == "__main__":
    sys.exit(main())
