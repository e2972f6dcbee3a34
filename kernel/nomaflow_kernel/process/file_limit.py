"""The number of files that a kernel may have open: each connection is one."""

from __future__ import annotations

import resource

_USUAL = 16_384
_LEAST = 64


class TooFewFiles(Exception):
    """Raised when the kernel may not open the files that it needs itself; the text gives the way out."""


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as it needs and the system allows; return it.

    :raises TooFewFiles: if that is not enough to serve
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _USUAL if hard == resource.RLIM_INFINITY else min(hard, _USUAL)
    if wanted < _LEAST:
        raise TooFewFiles(
            f"the kernel may have {wanted} files open, and needs {_LEAST} or more; raise the hard limit (`ulimit -Hn`, "
            "LimitNOFILE= of the service)"
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
