"""The number of files that a kernel may have open: each connection is one."""

from __future__ import annotations

import resource

from nomaflow_kernel.domain.errors import CannotStart

_USUAL = 16_384
_LEAST = 64


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as it needs and the system allows; return it.

    :raises CannotStart: if that is not enough to serve
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _USUAL if hard == resource.RLIM_INFINITY else min(hard, _USUAL)
    if wanted < _LEAST:
        raise CannotStart(
            f"the kernel may have {wanted} files open, and needs {_LEAST} or more; raise the hard limit (`ulimit -Hn`, "
            "LimitNOFILE= of the service)"
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
