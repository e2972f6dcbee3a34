"""The models of jobs.toml, connectors.toml and nomaflow.toml."""
