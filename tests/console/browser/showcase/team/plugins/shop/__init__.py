"""The callables of the showcase."""
