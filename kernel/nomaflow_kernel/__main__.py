"""``python -m nomaflow_kernel``: run a kernel."""

from __future__ import annotations

import os
import signal
import sys

from nomaflow_api.import_freeze import imports_frozen
from nomaflow_api.private_memory import keep_memory_private
from nomaflow_project.reading.store_password import hide_store_password
from nomaflow_telemetry.process_log import write_error

if __name__ == "__main__":
    keep_memory_private()
    hide_store_password("nomaflow kernel")
    # Read when gRPC is loaded: otherwise its C core writes log lines of its own among ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # No plugin of pydantic is wanted here, and a search for some reads the metadata of all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # A reload or dump request during the start must not end the process. Not SIG_IGN: child processes would inherit it.
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the start ends it without a traceback
    try:
        with imports_frozen():
            from nomaflow_kernel.process.settings import SettingsError, read_settings

            settings = read_settings(sys.argv[1:], os.environ)  # what it refuses need not wait for the rest
            from nomaflow_kernel.app import main
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nomaflow"):
            raise
        write_error(f"nomaflow kernel: {error.name!r} is not installed; pip install 'nomaflow[kernel]'")
        sys.exit(os.EX_CONFIG)
    except SettingsError as error:
        write_error(f"nomaflow kernel: {error}")
        sys.exit(os.EX_CONFIG)

    sys.exit(main(settings))
