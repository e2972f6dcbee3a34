"""``python -m nomaflow_console``: the console's process, and the maker of login links."""

from __future__ import annotations

import argparse
import gc
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nomaflow_api import event_loop
from nomaflow_api.import_freeze import imports_frozen
from nomaflow_api.option_parser import OptionParser
from nomaflow_telemetry.process_log import set_up_logging, write_error
from nomaflow_telemetry.process_start import begin_process, parts_installed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nomaflow_console.settings import ConsoleSettings


def main(arguments: list[str] | None = None) -> int:
    """Run the console, or print a login link; return the exit code."""
    begin_process()
    with parts_installed("console"):
        from nomaflow_console.settings import FLAGS, SettingsRefused, read_settings

        options = vars(_parser(FLAGS).parse(arguments))
        flags = {flag: options[flag.replace("-", "_")] for flag, _ in FLAGS}
        try:
            settings = read_settings(options["project"], flags, os.environ)
            return _print_link(settings) if options["action"] == "link" else _serve(settings)
        except SettingsRefused as error:
            write_error(f"nomaflow console: {error}")
            return error.exit_code


def _serve(settings: ConsoleSettings) -> int:
    with imports_frozen():
        from nomaflow_console.serving import serve

    gc.set_threshold(50_000, 20, 50)  # as in the kernel: the values of a page come and go by the thousand
    set_up_logging(level=settings.log_level, form=settings.log_format)
    return event_loop.run(serve(settings, os.environ))


def _print_link(settings: ConsoleSettings) -> int:
    """Print a link that logs in once, within ten minutes."""
    from nomaflow_console.access.links import make_code
    from nomaflow_console.access.secret import ConsoleSecret
    from nomaflow_console.settings import SettingsRefused

    try:
        url, pid = settings.told_address.read_text(encoding="utf-8").split()
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        raise SettingsRefused(
            f"no console runs in {str(settings.project)!r}", fix="start one with: nomaflow up, or: nomaflow console"
        ) from None
    code = make_code(ConsoleSecret.of(settings.state_folder), _maker())
    sys.stdout.write(f"{url}/login#{code}\n")
    return 0


def _maker() -> str:
    """Return the name of the person who makes a link."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        return f"uid {os.getuid()}"


def _parser(flags: Iterable[tuple[str, str]]) -> OptionParser:
    parser = OptionParser(
        prog="nomaflow console",
        description="Run the console, the web page of a project's kernel. `nomaflow console link DIR` prints a link "
        "that logs in.",
        epilog="`nomaflow console DIR` is short for `nomaflow console --project DIR`.",
    )
    parser.add_argument("action", nargs="?", choices=("serve", "link"), default="serve", help=argparse.SUPPRESS)
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    for flag, text in flags:
        variable = "NOMAFLOW_CONSOLE_" + flag.replace("-", "_").upper()
        parser.add_argument(f"--{flag}", default="", metavar="VALUE", help=f"{text} [{variable}]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
