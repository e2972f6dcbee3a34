"""The capacity of the machine of an instance: processors, memory and GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from nomaflow_project.jobs.resources import Capacity, Resources

_DEVICES = "/dev"
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def resources_here(given: Capacity, labels: Mapping[str, str]) -> Resources:
    """Return what an instance on this machine has. Reads a few small files.

    :param given: what it leaves out is measured
    """
    return Resources(
        cpu=float(len(os.sched_getaffinity(0))) if given.cpu is None else given.cpu,
        memory_mb=_memory_mb() if given.memory_mb is None else given.memory_mb,
        gpus=_gpus() if given.gpus is None else given.gpus,
        labels=dict(labels),
    )


def _memory_mb() -> int:
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _MEMORY_LIMITS:
        try:
            text = Path(path).read_text("ascii").strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdecimal() else []  # "max" is no limit
    return min(limits) >> 20


def _gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return sum(bool(name.strip()) and name.strip() != "-1" for name in visible.split(","))
    return sum(bool(re.fullmatch(r"nvidia\d+", name)) for name in os.listdir(_DEVICES))
