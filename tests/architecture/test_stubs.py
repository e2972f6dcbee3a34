"""The generated stubs are what the .proto files say, and the protos keep their house rules."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pool

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"


def bin_of(name: str) -> str:
    """Return the path of a program of the virtual environment the tests run in."""
    return str(Path(sys.executable).parent / name)


def test_regenerating_the_stubs_changes_nothing(tmp_path: Path) -> None:
    """The committed stubs are byte for byte what the pinned generator makes of the protos."""
    shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    for stub in (tmp_path / "protos/nomaflow_api/v1").glob("*_pb2*"):
        stub.unlink()
    stamp = tmp_path / ".venv/.installed"
    assert stamp.exists(), "run the tests with make test, which makes the environment"
    (tmp_path / "pyproject.toml").write_text("")
    subprocess.run(
        ["make", "--old-file=pyproject.toml", "protos"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    made = {path.name: path.read_bytes() for path in (tmp_path / "protos/nomaflow_api/v1").iterdir() if path.is_file()}
    kept = {path.name: path.read_bytes() for path in (PROTOS / "nomaflow_api/v1").iterdir() if path.is_file()}
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == []


def test_buf_finds_nothing(tmp_path: Path) -> None:
    """The protos pass buf's STANDARD and COMMENTS rules: every message, field, enum, value and rpc is commented."""
    result = subprocess.run([bin_of("buf"), "lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_every_message_is_carried() -> None:
    """Each message and enum is part of a call: one that nothing carries would only mislead who writes a client."""
    for path in (PROTOS / "nomaflow_api/v1").glob("*_pb2.py"):
        importlib.import_module(f"nomaflow_api.v1.{path.stem}")
    pool = descriptor_pool.Default()
    files = [
        pool.FindFileByName(f"nomaflow_api/v1/{path.name}") for path in (PROTOS / "nomaflow_api/v1").glob("*.proto")
    ]
    declared = {
        each.full_name
        for file in files
        for each in (*file.message_types_by_name.values(), *file.enum_types_by_name.values())
    }
    calls = [method for file in files for service in file.services_by_name.values() for method in service.methods]
    asked = {message.full_name: message for method in calls for message in (method.input_type, method.output_type)}
    carried: set[str] = set()
    while asked:
        name, message = asked.popitem()
        carried.add(name)
        for field in message.fields:
            carried |= {field.enum_type.full_name} if field.enum_type else set()
            if field.message_type and field.message_type.full_name not in carried:
                asked[field.message_type.full_name] = field.message_type
    assert declared - carried == set()
