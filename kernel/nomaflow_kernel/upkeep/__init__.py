"""Maintenance of a project's history without a kernel: copying it, restoring a copy, inspecting it."""
