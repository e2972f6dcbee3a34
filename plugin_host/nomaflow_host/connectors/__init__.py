"""connectors.toml: read by a host's main process, used by its workers.

Neither SQLAlchemy nor httpx is imported before a callable uses a pool or an API.
"""
