"""docs/configuration.md and docs/schemas/ are what the models say."""

from __future__ import annotations

import re
from pathlib import Path

from docs.making.configuration_text import PROBLEM_CODES
from docs.making.pages import documented_files, write_pages

import nomaflow_project
from nomaflow_cli.commands import check
from nomaflow_kernel.catalogue import jobs_for_other_hosts, own_file, registry
from nomaflow_kernel.rpc import job_problems

_DOCS = Path(__file__).parents[3] / "docs"


def test_generated_files_are_up_to_date() -> None:
    """Run ``make docs`` where this fails."""
    for name, text in documented_files().items():
        assert (_DOCS / name).read_text(encoding="utf-8") == text, name


def test_the_generator_writes_what_it_says(tmp_path: Path) -> None:
    """Into the folder named."""
    write_pages(tmp_path)
    written = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == documented_files()


def test_every_key_has_a_row() -> None:
    """One row per key of the three files, each with type, version and meaning."""
    rows = re.findall(
        r"^\| `\w+` \| .+ \| .* \| .* \| (\d\.\d\.\d) \| .+ \|$", documented_files()["configuration.md"], re.M
    )
    assert len(rows) > 100


def test_every_problem_code_is_documented() -> None:
    """Each code in the source of reader, check and kernel is in the table, and the other way round."""
    folder = Path(nomaflow_project.__file__).parent
    modules = (Path(str(module.__file__)) for module in (check, jobs_for_other_hosts, own_file, job_problems, registry))
    source = "\n".join(path.read_text() for path in (*folder.rglob("*.py"), *modules))
    calls = r"""(?:\.(?:error|warning)|refusal|formed|_parsed)\(\s*(?:\w+,\s*)?"([a-z_]+)","""
    pattern = (
        calls
        + r"""|(?:ID_OF_\w+|UNACCEPTED|NOT_OFFERED|FOREIGN_IMAGE|UNSET_VARIABLE|DOUBTFUL_VALUE) = "([a-z_]+)\""""
        + r"""|(?:NO_FILE_NAMED|ACCESS_REVOKED) = "([a-z_]+)\""""
        + r"""|code(?:: str =|=)\s*"([a-z_]+)\""""
    )
    used = {"".join(each) for each in re.findall(pattern, source)}
    assert used == set(PROBLEM_CODES)
