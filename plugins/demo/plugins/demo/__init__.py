"""The demo's own callables: data to work on, and steps to watch."""
