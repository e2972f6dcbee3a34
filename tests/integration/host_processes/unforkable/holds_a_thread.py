"""Starts a thread as it is imported: a process with threads is not forked, so workers are fresh interpreters."""

from __future__ import annotations

import threading

threading.Thread(target=threading.Event().wait, name="held", daemon=True).start()
