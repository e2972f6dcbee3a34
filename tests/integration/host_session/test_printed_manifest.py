"""``python -m nomaflow_host --manifest``: what a host would show, printed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

from host_process import JOBS


async def printed_manifest(project: Path) -> bytes:
    """Return the manifest that a host would show, as it is printed."""
    command = (sys.executable, "-m", "nomaflow_host", "--project", str(project), "--manifest")
    printing = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await printing.communicate()
    assert printing.returncode == 0
    return out


async def test_the_manifest_is_printed(project: Path) -> None:
    """The printed manifest lists a broken module and a malformed job file, and everything else; exit code 0."""
    (project / "plugins" / "myapp" / "bad.py").write_text("import nothing_of_that_name\n")
    (project / "plugins" / "myapp" / "jobs.toml").write_text("x = \n")
    manifest = json.loads(await printed_manifest(project))
    assert "nothing_of_that_name" in manifest["modules"]["myapp.bad"]["error"]
    assert manifest["job_files"][1]["error"]["line"] == 1
    assert manifest["callables"]["myapp.work:slow"]["kind"] == "sync"
    assert not (project / ".nomaflow" / "host-demo").exists(), "nothing is written"


async def test_the_same_code_in_two_folders_offers_the_same(project: Path, tmp_path: Path) -> None:
    """Byte for byte, so that hosts on several machines do not replace each other's catalogue; problems included."""
    plugins = project / "plugins" / "myapp"
    (plugins / "bad.py").write_text("from pathlib import Path\n\nraise ValueError(f'of {Path(__file__).name}')\n")
    (plugins / "odd.py").write_text(
        "from myapp import nothing\n\n\ndef placed(*, of=__import__('pathlib').Path.cwd()):\n    pass\n"
    )
    (project / "jobs.toml").write_text(JOBS + 'timout_seconds = 1\nargs = "${UNSET_HERE}"\n')
    (project / "nomaflow.toml").write_text('[host]\nname = "demo"\n')
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(project, other)
    printed = [await printed_manifest(root) for root in (project, other)]
    assert printed[0] == printed[1]
    assert b"UNSET_HERE" in printed[0]
