"""The engine: it decides what happens to every run. ``Engine`` is its interface; other modules hold the decisions."""
