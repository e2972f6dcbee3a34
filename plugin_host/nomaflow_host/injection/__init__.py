"""Turns a reference and a set of values into a call that can be made."""
