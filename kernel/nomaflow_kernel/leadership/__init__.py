"""Getting the lead, the parts of a kernel that has it, and what its process is asked to do."""

from __future__ import annotations
