"""The reaper: the one process of a host that is parent of templates and workers, waits for them and signals them.

Standard library only, one thread, nothing that blocks. A host's main process starts it as
``python -P -m nomaflow_host.reaper`` and speaks to it in frames; at the end of their connection it kills everything
below itself and exits, so that a killed host leaves nothing behind.
"""

from __future__ import annotations

from nomaflow_host.reaper.loop import Reaper
from nomaflow_host.reaper.proc import identity
from nomaflow_host.reaper.trees import Tree, kill_trees

__all__ = ["Reaper", "Tree", "identity", "kill_trees"]
