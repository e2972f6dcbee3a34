"""``python -m nomaflow_alerts``: the alerts' process."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from nomaflow_alerts.settings import CannotServe, checked_alerts
from nomaflow_api import event_loop
from nomaflow_api.import_freeze import imports_frozen
from nomaflow_api.option_parser import OptionParser
from nomaflow_telemetry.process_log import set_up_logging, write_error
from nomaflow_telemetry.process_start import begin_process, parts_installed


def main(arguments: list[str] | None = None) -> int:
    """Serve alerts, or tell what would have been sent, and return the exit code."""
    begin_process()
    options = _parser().parse(arguments)
    project = options.project.absolute()
    with parts_installed("alerts"):
        try:
            alerts = checked_alerts(project, os.environ)
        except CannotServe as error:
            write_error(f"nomaflow alerts: {error}")
            return error.exit_code
        with imports_frozen():
            from nomaflow_alerts.app import serve

    from nomaflow.client import ClientError, KernelPlace

    try:
        place = KernelPlace.of(
            project, os.environ, kernel=alerts.kernel, token_file=alerts.token_file, kernel_ca=alerts.kernel_ca
        )
        set_up_logging(
            level="WARNING" if options.replay_since is not None else alerts.log_level, form=alerts.log_format
        )
        _keep_urls_out_of_the_log()
        if options.replay_since is not None:
            from nomaflow_alerts.replaying import replay

            event_loop.run(replay(place, alerts, since=options.replay_since))
        else:
            event_loop.run(serve(place, alerts, dict(os.environ)))
    except ClientError as error:
        write_error(f"nomaflow alerts: {error.advice}")
        return os.EX_TEMPFAIL
    except CannotServe as error:
        write_error(f"nomaflow alerts: {error}")
        return error.exit_code
    return 0


def _keep_urls_out_of_the_log() -> None:
    """Silence the libraries of apprise that log the URLs which they ask: those of channels are credentials."""
    for name in ("requests", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("apprise").propagate = False


def _parser() -> OptionParser:
    parser = OptionParser(
        prog="nomaflow alerts serve", description="Watch a kernel and tell people, by [alerts] of nomaflow.toml."
    )
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    parser.add_argument("--replay-since", type=int, default=None, metavar="SEQ", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
