"""History: runs, attempts, events and logs, on SQLite or PostgreSQL."""
