"""The secrets process itself: it waits for references, and answers each from a thread."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nomaflow.secrets import SecretRefused, SecretUnavailable
from nomaflow_api.private_memory import keep_memory_private
from nomaflow_host.channel.frames import FrameSocket
from nomaflow_host.hooks.manager import build_hooks
from nomaflow_host.injection.references import raised_at
from nomaflow_host.reaper.proc import die_with_parent

if TYPE_CHECKING:
    from nomaflow.calls import SecretReader

_THREADS = 16
_MAX_VALUE = 64 * 1024
_SCHEME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TAKEN = frozenset({"file"})


def main(fd: int) -> int:
    """Answer until the host's main process is gone."""
    die_with_parent(signal.SIGKILL)
    keep_memory_private()
    link = FrameSocket(socket.socket(fileno=fd))
    readers, problems = _load()
    link.send({"is": "ready"})
    lock = threading.Lock()

    def answer(number: int, scheme: str, rest: str) -> None:
        message = {"is": "answer", "number": number, **_read(readers, problems, scheme, rest)}
        with lock:
            link.send(message)
            link.flush_all()

    pool = ThreadPoolExecutor(_THREADS)
    while not link.ended:
        select.select([link], [], [])
        for frame in link.receive():
            wanted = frame.message
            pool.submit(answer, wanted["number"], wanted["scheme"], wanted["rest"])
    os._exit(0)  # a reader may hang


def _load() -> tuple[dict[str, SecretReader], list[str]]:
    """Return the readers of the installed plugins, and why others are not used."""
    hooks = build_hooks(environ=os.environ, trace_stream=sys.stderr)
    problems = [each.message for each in hooks.problems]
    readers: dict[str, SecretReader] = {}
    for each in hooks.call.nomaflow_secrets.get_hookimpls():
        try:
            given = each.function(*([os.environ] if "environ" in each.argnames else []))
        except Exception as error:  # noqa: BLE001 - a plugin's mistake is told to who needs its references
            problems.append(f"the plugin {each.plugin_name!r} raised {_named(error)}")
            continue
        for scheme, reader in given.items() if isinstance(given, Mapping) else ():
            if not _SCHEME.fullmatch(str(scheme)) or scheme in _TAKEN:
                problems.append(f"the plugin {each.plugin_name!r} gives {scheme!r}, which cannot be a scheme")
            else:
                readers[scheme] = reader
    return readers, problems


def _read(readers: Mapping[str, SecretReader], problems: list[str], scheme: str, rest: str) -> dict[str, Any]:
    """Return the value, or the reason why there is none, as fields of an answer."""
    reader = readers.get(scheme)
    if reader is None:
        known = f"installed plugins resolve {', '.join(sorted(readers))}" if readers else "no installed plugin does"
        told = f"no plugin resolves {scheme!r}: {known}, and those of the plugins folder are not asked"
        return _failed("; ".join([told, *problems[:3]]))
    try:
        value = reader(rest)
    except SecretUnavailable as error:
        return _failed(str(error), retry=True)
    except SecretRefused as error:
        return _failed(str(error))
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises fails only who asked
        return _failed(f"the plugin for {scheme!r} raised {_named(error)}")
    if not isinstance(value, str):
        return _failed(f"the plugin for {scheme!r} returned {type(value).__name__}, expected str")
    if len(value) > _MAX_VALUE:
        return _failed(f"the plugin for {scheme!r} returned {len(value)} characters, expected at most {_MAX_VALUE}")
    return {"value": value}


def _failed(problem: str, *, retry: bool = False) -> dict[str, Any]:
    return {"problem": problem[:2000], "retry": retry}


def _named(error: BaseException) -> str:
    """Return an exception's type and place: its text might quote a secret."""
    return type(error).__name__ + raised_at(error)
