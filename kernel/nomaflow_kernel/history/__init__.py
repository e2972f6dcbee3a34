"""Run history: states, records, transitions and reasons, the values of lookups, and the feed of events."""
