"""The form of a manifest, checked on several threads at once."""

from __future__ import annotations

import subprocess
import sys

_CHECK_AT_ONCE = """
import sys, threading
from nomaflow_project.jobs.manifest import check_manifest

sys.setswitchinterval(1e-6)
parameter = {"name": "x", "kind": "k", "required": True}
step_type = {"name": "n", "callable": "a:b", "schema": {"properties": {"a": {"type": "string"}}}}
manifest = {
    "host": "team",
    "callables": {"a:b": {"parameters": [parameter]}},
    "modules": {"a": {}},
    "step_types": [step_type],
    "job_files": [{"path": "jobs.toml", "tree": {}}],
}
start = threading.Barrier(4)


def check():
    start.wait()
    for _ in range(20):
        check_manifest(manifest)


threads = [threading.Thread(target=check) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


def test_the_first_manifests_of_a_process_may_come_at_once() -> None:
    """A process that checks its first manifests on four threads does not crash; two in three did."""
    ends = [subprocess.run([sys.executable, "-c", _CHECK_AT_ONCE], check=False).returncode for _ in range(4)]
    assert ends == [0] * 4
