"""``python -m nomaflow_kernel``: run a kernel."""

from __future__ import annotations

import os
import sys

from nomaflow_api.import_freeze import imports_frozen
from nomaflow_project.reading.store_password import hide_store_password
from nomaflow_telemetry.process_log import write_error
from nomaflow_telemetry.process_start import begin_process, parts_installed

if __name__ == "__main__":
    begin_process()
    hide_store_password("nomaflow kernel")
    # No plugin of pydantic is wanted here, and a search for some reads the metadata of all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    with parts_installed("kernel"), imports_frozen():
        from nomaflow_kernel.process.settings import SettingsError, read_settings

        try:
            settings = read_settings(sys.argv[1:], os.environ)  # what it refuses need not wait for the rest
        except SettingsError as error:
            write_error(f"nomaflow kernel: {error}")
            sys.exit(os.EX_CONFIG)
        from nomaflow_kernel.app import main

    sys.exit(main(settings))
