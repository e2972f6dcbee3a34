"""The live view of a run: one engine, three screens."""
