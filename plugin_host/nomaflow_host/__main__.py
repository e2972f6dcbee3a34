"""``python -m nomaflow_host``: a plugin host's main process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

from nomaflow_api import event_loop
from nomaflow_api.import_freeze import imports_frozen
from nomaflow_api.option_parser import OptionParser
from nomaflow_host.process.errors import HostError
from nomaflow_host.process.instance_flags import PREFIX, add_flags, positive_seconds
from nomaflow_project.reading.misspelt_names import wrong_variable
from nomaflow_project.reading.project_files import ProjectFiles
from nomaflow_telemetry.metrics_address import MetricsAddressRefused, MetricsAddressTaken
from nomaflow_telemetry.process_log import LOG_FORMATS, LOG_LEVELS, set_up_logging, write_error
from nomaflow_telemetry.process_start import begin_process, parts_installed

_CHOICES = {"--log-level": LOG_LEVELS, "--log-format": LOG_FORMATS}


def main(arguments: list[str] | None = None) -> int:
    """Run a host and return its exit code."""
    environ = dict(os.environ)
    begin_process()
    parser, variables = _parser()
    options = parser.parse(arguments)
    for flag, allowed in _CHOICES.items():
        given = getattr(options, flag[2:].replace("-", "_"))
        if given and given not in allowed:
            parser.error(f"{flag}, or its variable, is {given!r}; expected one of {', '.join(allowed)}")
    # No plugin of pydantic is wanted here, and a search for some reads the metadata of all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    with parts_installed("host"), imports_frozen():
        from nomaflow_host.app import HostOptions, print_manifest, serve

        if find_spec("pydantic") is None:  # of the extra, whose parts are loaded by whoever uses them
            raise ModuleNotFoundError(name="pydantic")
    if wrong := _wrong_variable(variables):
        write_error(f"nomaflow host: {wrong}")
        return os.EX_CONFIG

    level, form = _logging_settings(options)
    given = {**vars(options), "log_level": level, "log_format": form}
    only_manifest = given.pop("manifest")
    set_up_logging(level="WARNING" if only_manifest else level, form=form)
    work = print_manifest if only_manifest else serve
    try:
        return event_loop.run(work(HostOptions(**given), environ=environ))
    except HostError as error:
        write_error(f"nomaflow host: {error}")
        return error.exit_code
    except (MetricsAddressRefused, MetricsAddressTaken) as error:
        write_error(f"nomaflow host: {error}")
        return os.EX_CONFIG if isinstance(error, MetricsAddressRefused) else os.EX_TEMPFAIL


def _parser() -> tuple[OptionParser, dict[str, str]]:
    """Return the parser, and the variables of its flags."""
    parser = OptionParser(
        prog="nomaflow host",
        description="Run the plugin host of a project: its callables, in processes of their own.",
        epilog="`nomaflow host DIR` is short for `nomaflow host --project DIR`.",
    )
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    parser.add_argument(
        "--kernel", default="", metavar="ADDRESS", help="unix:PATH, HOST:PORT or tls://HOST:PORT, several with commas"
    )
    parser.add_argument("--name", default="", help="the host's name")
    variables = add_flags(parser)
    parser.add_argument(
        "--idle-exit-seconds",
        type=positive_seconds,
        default=0.0,
        metavar="SECONDS",
        help="end with exit code 0 once nothing has run for this long and the kernel has every report",
    )
    parser.add_argument("--watch", action="store_true", help="reload whenever a file is saved")
    parser.add_argument("--manifest", action="store_true", help="load the project once, print its manifest, exit")
    return parser, variables


def _wrong_variable(variables: Mapping[str, str]) -> str:
    """Return what is wrong with a NOMAFLOW_HOST_* variable; empty if all is well."""
    from nomaflow_project.models.settings_file import HostSection  # loaded with the rest of the host

    keys = (each.name for each in fields(HostSection))
    return wrong_variable(os.environ, prefix=PREFIX, keys=keys, variables=variables)


def _logging_settings(options: argparse.Namespace) -> tuple[str, str]:
    """Return level and form of the log. An unreadable file is reported a little later, when the host reads it."""
    host = ProjectFiles(options.project, os.environ).table("host")
    table = host if isinstance(host, dict) else {}
    level = options.log_level or table.get("log_level")
    form = options.log_format or table.get("log_format")
    return level if level in LOG_LEVELS else "INFO", form if form in LOG_FORMATS else "text"


if __name__ == "__main__":
    sys.exit(main())
