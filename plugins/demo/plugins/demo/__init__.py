"""The demo's own callables: they create data and show progress."""
