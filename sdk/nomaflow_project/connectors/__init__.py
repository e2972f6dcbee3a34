"""connectors.toml: read, checked and resolved, each pool and connector by itself."""
