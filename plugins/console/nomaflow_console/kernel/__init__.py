"""Calls to the kernel, and the events that it sends."""
