"""A kernel on a disk that takes ``COMMIT_SECONDS`` for each commit; run as a module in place of the kernel's own."""

from __future__ import annotations

import os
import sys
import threading
import time

from sqlalchemy import Connection, Engine, event

from nomaflow_kernel.app import main
from nomaflow_kernel.process.settings import read_settings

if __name__ == "__main__":

    def wait_for_the_disk(_connection: Connection) -> None:
        """Hold up the thread that writes, and no other."""
        if threading.current_thread().name == "nomaflow-store":
            time.sleep(float(os.environ["COMMIT_SECONDS"]))

    event.listen(Engine, "commit", wait_for_the_disk)
    sys.exit(main(read_settings(sys.argv[1:], os.environ)))
