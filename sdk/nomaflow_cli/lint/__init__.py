"""The lint of ``nomaflow check``: it reads the source text of callables and imports no plugin."""
