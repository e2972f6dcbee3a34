"""Reads a project's folder, and owns a host's state directory."""
