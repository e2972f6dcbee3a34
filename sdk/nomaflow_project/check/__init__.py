"""Checking a project without a kernel, and planning its fires."""

from __future__ import annotations
