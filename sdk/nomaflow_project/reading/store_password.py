"""The password in a store's URL: not where other users of the machine can read it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nomaflow_api.credential_signs import url_password
from nomaflow_project.reading.files import SETTINGS_FILE
from nomaflow_project.reading.literal_credential import is_literal_credential
from nomaflow_project.reading.problems import Place, Problem
from nomaflow_project.reading.regular_files import others_may_open

if TYPE_CHECKING:
    from nomaflow_project.reading.project_files import ProjectFiles

STORE_VARIABLE = "NOMAFLOW_KERNEL_STORE"
"""The variable that stands for ``--store``."""
_FLAG = "--store"


def hide_store_password(program: str) -> None:
    """Begin this process again without the store on its command line if that has a password; else return.

    :param program: its name for the warning
    """
    command, url = without_store_password(sys.orig_argv)
    if url:
        instead = f"write it as [kernel] store in nomaflow.toml (chmod 600), or set {STORE_VARIABLE}"
        sys.stderr.write(f"{program}: the password in --store was in the list of processes for a moment; {instead}\n")
        sys.stderr.flush()
        os.environ[STORE_VARIABLE] = url
        os.execv(sys.executable, [sys.executable, *command[1:]])  # noqa: S606  # no shell is wanted


def without_store_password(command: Sequence[str]) -> tuple[list[str], str]:
    """Return a command line without its store, and the store's URL; all of it and nothing if that has no password."""
    kept: list[str] = []
    url = ""
    words = iter(command)
    for word in words:
        if word == _FLAG:
            url = next(words, "")
        elif word.startswith(f"{_FLAG}="):
            url = word.partition("=")[2]
        else:
            kept.append(word)
    return (kept, url) if url_password(url) else (list(command), "")


def open_store_password(files: ProjectFiles) -> Problem | None:
    """Return an error if nomaflow.toml has the store's password itself, and others may read or write the file."""
    kernel = files.settings.get("kernel")
    url = kernel.get("store") if isinstance(kernel, dict) else None
    if not isinstance(url, str) or not is_literal_credential("kernel", "store", url):
        return None
    mode = others_may_open(files.root / SETTINGS_FILE)
    if not mode:
        return None
    return Place(SETTINGS_FILE, "kernel.store").error(
        "open_credential",
        f"it is a literal password, and others may read or write the file (its mode is {mode:04o})",
        fix="chmod 600 it, or write the password as ${NAME}",
    )
