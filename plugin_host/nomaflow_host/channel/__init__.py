"""Connections between a host's processes: frames over socket pairs, and the ring that log lines go through."""
