"""The kernel as a process: its settings, and the files that it may have open."""
