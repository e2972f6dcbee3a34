"""Sync steps, each deaf in its own way. They write their heartbeat where they can."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import time

from stopping.ledgers import note, others_alive


def polls(*, ledger, ctx, **_):
    """Ask, as the guide says."""
    note(ledger, "start", key=ctx.attempt_key)
    while not ctx.is_cancelled():
        time.sleep(0.01)
    return {"rows_affected": 42}


def tight_loop(*, ledger, **_):
    """Never ask, and let nobody else have the processor."""
    note(ledger, "start")
    while True:
        pass


def sleeps(*, ledger, ctx, **_):
    """Never ask; note first whether a process of an earlier attempt still runs."""
    note(ledger, "start", key=ctx.attempt_key)
    note(ledger, "looked", others=others_alive(ledger))
    while True:
        time.sleep(0.02)


def beats(*, ledger, **_):
    """Never ask, and show life."""
    note(ledger, "start")
    while True:
        note(ledger, "beat")
        time.sleep(0.02)


def swallows_everything(*, ledger, **_):
    """Catch every exception and continue, with signs of life: it begins where none would end it any more."""
    signs = itertools.chain(["start"], itertools.repeat("beat"))
    while True:
        with contextlib.suppress(BaseException):
            for sign in signs:
                note(ledger, sign)
                time.sleep(0.02)


def holds_the_gil(*, ledger, **_):
    """Stay in C code that never lets the interpreter go."""
    note(ledger, "start")
    sum(range(10**13))


def waits_for_a_child(*, ledger, **_):
    """Wait for a child process."""
    note(ledger, "start")
    subprocess.run(["sleep", "600"], check=True)


def deaf_child(*, ledger, **_):
    """Wait for a child that ignores SIGTERM."""
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        note(ledger, "child", child=child.pid)
        note(ledger, "start")
        child.wait()


_DAEMON = """
import json, os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
with open(sys.argv[1], "a") as file: file.write(json.dumps({"what": "child", "pid": os.getpid()}) + "\\n")
while True:
    time.sleep(0.02)
    with open(sys.argv[1], "a") as file: file.write(json.dumps({"what": "beat", "pid": os.getpid()}) + "\\n")
"""


def daemonises(*, ledger, **_):
    """Leave a daemon in its own session with an empty environment, and return."""
    subprocess.run([sys.executable, "-c", _DAEMON, ledger], env={}, check=True)
    while _has_no(ledger, "child"):
        time.sleep(0.01)
    note(ledger, "start")
    return 1


def daemonises_and_stays(*, ledger, **_):
    """Have such a daemon and stay."""
    daemonises(ledger=ledger)
    while True:
        time.sleep(0.02)


def daemonises_and_is_deaf(*, ledger, **_):
    """Have such a daemon and swallow everything."""
    daemonises(ledger=ledger)
    swallows_everything(ledger=ledger)


def _has_no(ledger, what):
    with contextlib.suppress(FileNotFoundError), open(ledger) as file:
        return f'"what": "{what}"' not in file.read()
    return True


def quick(*, ledger, ctx, name="quick", **_):
    """Say that it ran, and whether others still do."""
    note(ledger, name, key=ctx.attempt_key, others=others_alive(ledger) if name == "after" else [])
    return 1


def fails(*, ledger, ctx, **_):
    """Fail at once."""
    note(ledger, "start", key=ctx.attempt_key)
    raise ValueError("no")


def lives_for(*, ledger, seconds=0.0, **_):
    """Return after a moment."""
    note(ledger, "start")
    time.sleep(seconds)
    return 3


def eats_memory(**_):
    """Ask for ever more."""
    hoard = []
    while True:
        hoard.append(bytearray(8 << 20))


def has_many_processes(*, ledger, **_):
    """Start twenty children."""
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(20)]
    for child in children:
        note(ledger, "child", child=child.pid)
    signal.pause()


def burns(**_):
    """Use a fifth of a second of processor time, and 64 MiB."""
    kept = b"x" * (64 << 20)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    return len(kept)
