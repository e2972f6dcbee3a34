"""Checking a project without a kernel, and planning its fires."""
