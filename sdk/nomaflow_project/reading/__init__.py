"""TOML files, references to the environment and to callables, and the problems found in them."""
