"""``python -m nomaflow_host --manifest``: what a host would show, printed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import zlib
from pathlib import Path

from host_process import JOBS

from forked_templates import FORK_TEMPLATES
from nomaflow_kernel.hosts.manifest import open_manifest
from nomaflow_project.jobs.load import load_manifest
from real_system import run_to_end


async def printed_manifest(project: Path) -> bytes:
    """Return the manifest that a host would show, as it is printed."""
    flags = ("--project", str(project), "--manifest")
    code, out = await asyncio.to_thread(run_to_end, "nomaflow_host", *flags, environ={FORK_TEMPLATES: "1"})
    assert code == 0
    return out.encode()


async def test_the_manifest_is_printed(project: Path) -> None:
    """The printed manifest lists a broken module and a malformed job file, and everything else; exit code 0."""
    (project / "plugins" / "myapp" / "bad.py").write_text("import nothing_of_that_name\n")
    (project / "plugins" / "myapp" / "jobs.toml").write_text("x = \n")
    manifest = json.loads(await printed_manifest(project))
    assert "nothing_of_that_name" in manifest["modules"]["myapp.bad"]["error"]
    assert manifest["job_files"][1]["error"]["line"] == 1
    assert manifest["callables"]["myapp.work:slow"]["kind"] == "sync"
    assert not (project / ".nomaflow" / "host-demo").exists(), "nothing is written"


async def test_what_is_too_large_keeps_no_manifest_from_its_kernel(project: Path) -> None:
    """V10, V14: a job, callable, module or step type outside the bounds is reported or left out; the rest serves."""
    plugins, deep = project / "plugins" / "myapp", "[" * 60 + "]" * 60
    jobs = {"dots": ("." * 10_000, ""), "long": ("m:" + "f" * 300, ""), "deep": ("myapp.work:slow", deep)}
    tables = [
        f'[[jobs]]\nid = "{name}"\nparams = {{ a = {values or 1} }}\nsteps = [{{ callable = "{reference}" }}]\n'
        for name, (reference, values) in jobs.items()
    ]
    (project / "jobs.toml").write_text(JOBS + "\n" + "".join(tables) + f"[other]\na = {deep}\n")
    (plugins / "wide.py").write_text(f"def wide(*, {', '.join(f'p{number}=1' for number in range(300))}): ...\n")
    (plugins / "types.py").write_text(STEP_TYPES)
    below = plugins.joinpath(*["a" * 100] * 3)
    below.mkdir(parents=True)
    (below / "far.py").touch()
    body = (await printed_manifest(project)).strip()
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    manifest, _ = open_manifest(zlib.compress(body), digest=digest, host="demo")
    assert manifest["callables"]["myapp.work:slow"]["error"] is None
    assert "of length <= 255" in manifest["callables"]["myapp.wide:wide"]["error"]
    told = " ".join(problem["message"] for problem in manifest["problems"])
    assert [f"step type {name!r}" in told for name in ("narrow", "wrong", "wild", "fine")] == [True, True, True, False]
    found = {job.job_id: [each.code for each in job.problems if each.is_error] for job in load_manifest(manifest).jobs}
    assert {name: codes for name, codes in found.items() if codes} == {
        "dots": ["bad_callable"],
        "long": ["bad_callable"],
    }


STEP_TYPES = """
from nomaflow import hookimpl
from nomaflow.calls import StepType

@hookimpl
def nomaflow_step_types():
    yield StepType(name="narrow", callable="m:" + "f" * 300)
    yield StepType(name="wrong", callable="m:f", schema={"properties": 5})
    yield StepType(name="wild", callable=7)
    yield StepType(name="fine", callable="myapp.work:slow")
"""


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
