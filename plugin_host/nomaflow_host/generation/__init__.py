"""One load of a host's plugin code: its modules, the manifest, and calls."""
