"""Callables that do what no callable should."""
