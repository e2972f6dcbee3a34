"""``python -m nomaflow_launchers``: a launcher's process."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from nomaflow_api.option_parser import OptionParser
from nomaflow_telemetry.process_log import set_up_logging, write_error
from nomaflow_telemetry.process_start import begin_process


def main(arguments: list[str] | None = None) -> int:
    """Serve, and return the exit code."""
    begin_process()
    project = _parser().parse(arguments).project.absolute()

    from nomaflow.client import ClientError, KernelPlace
    from nomaflow_launchers.app import serve
    from nomaflow_launchers.settings import CannotStart, read_launcher

    try:
        section = read_launcher(project, os.environ)
        place = KernelPlace.of(
            project, os.environ, kernel=section.kernel, token_file=section.token_file, kernel_ca=section.kernel_ca
        )
        set_up_logging(level=section.log_level, form=section.log_format)
        # Not uvloop: it would start the engine's commands with fork, and gRPC's fork handlers crash some of them.
        asyncio.run(serve(place, section, dict(os.environ)))
    except ClientError as error:
        write_error(f"nomaflow launcher: {error.advice}")
        return os.EX_CONFIG
    except CannotStart as error:
        write_error(f"nomaflow launcher: {error}")
        return error.exit_code
    return 0


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="nomaflow launcher", description="Start instances of hosts when steps wait for them, by [launcher]."
    )
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
