"""``python -m nomaflow_console``: the console's process, and the maker of login links."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from nomaflow_api import event_loop
from nomaflow_api.private_memory import keep_memory_private
from nomaflow_telemetry.process_log import set_up_logging, write_error

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the console, or print a login link; return the exit code."""
    keep_memory_private()
    options = _parser().parse_args(arguments)
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from nomaflow_console.settings import EX_CONFIG, ConsoleSettings, SettingsRefused

    settings = ConsoleSettings(
        project=options.project.absolute(), listen=options.listen, address=options.address, origin=options.origin
    )
    try:
        if options.action == "link":
            return _print_link(settings)
        from nomaflow_console.serving import serve

        set_up_logging(level="INFO", form="text")
        return event_loop.run(serve(settings))
    except SettingsRefused as error:
        write_error(f"nomaflow console: {error}")
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nomaflow"):
            raise
        write_error(f"nomaflow console: {error.name!r} is not installed; pip install 'nomaflow[console]'")
        return EX_CONFIG
    except KeyboardInterrupt:
        return 130


def _print_link(settings: object) -> int:
    from nomaflow_console.access.links import make_code
    from nomaflow_console.access.secret import ConsoleSecret
    from nomaflow_console.settings import ConsoleSettings, SettingsRefused

    assert isinstance(settings, ConsoleSettings)
    try:
        url = (settings.state_folder / "console").read_text(encoding="utf-8").strip()
    except OSError:
        raise SettingsRefused(
            f"no console runs in {str(settings.project)!r}", fix="start one with: nomaflow up, or: nomaflow console"
        ) from None
    code = make_code(ConsoleSecret.of(settings.state_folder), getpass.getuser())
    sys.stdout.write(f"{url}/login#{code}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nomaflow console",
        description="Run the console, the web page of a project's kernel; `nomaflow console link` prints a login link.",
    )
    parser.add_argument("action", nargs="?", choices=("serve", "link"), default="serve")
    parser.add_argument("--project", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    parser.add_argument("--listen", default="", metavar="ADDRESS", help="127.0.0.1:PORT or unix:PATH")
    parser.add_argument("--address", default="", metavar="ADDRESS", help="the kernel's; default: the project's own")
    parser.add_argument("--origin", default="", metavar="URL", help="where browsers see it behind a proxy")
    return parser


if __name__ == "__main__":
    sys.exit(main())
