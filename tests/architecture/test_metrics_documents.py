"""The table of metrics and the dashboard are about the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomaflow_host.observing.metrics import HOST_METRICS
from nomaflow_kernel.observing.metrics import KERNEL_METRICS
from nomaflow_telemetry.endpoint import LOOP_LAG
from nomaflow_telemetry.metrics import Metric

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "nomaflow.json").read_text(encoding="utf-8"))
ALL = (*KERNEL_METRICS, *HOST_METRICS, LOOP_LAG)
LEFT_OUT = {"nomaflow_kernel_info", "nomaflow_host_info"}
"""They hold only labels; the dashboard's variables are made from them."""
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}


def panels() -> Iterator[dict[str, Any]]:
    """Yield every panel of the dashboard that shows something."""
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def names_in(expression: str) -> set[str]:
    """Return the names of the metrics that an expression reads, without the suffixes of histograms."""
    found = re.findall(r"\b(?:nomaflow|process)_\w+", expression)
    histograms = {metric.name for metric in ALL if metric.kind == "histogram"}
    bare = {name: re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    return {bare[name] if bare[name] in histograms else name for name in found}


def metrics_markdown(metrics: tuple[Metric, ...]) -> str:
    """Return the table of metrics for docs/metrics.md."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {metric.unit} | {', '.join(metric.labels)} | {metric.help} |"
        for metric in metrics
    ]
    return "\n".join(["| name | type | unit | labels | meaning |", "|---|---|---|---|---|", *rows, ""])


def test_the_page_has_the_tables_of_the_code() -> None:
    """docs/metrics.md has each metric's name, type, unit, labels and meaning; here is what belongs there."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metrics in (KERNEL_METRICS, HOST_METRICS, (LOOP_LAG,)):
        assert metrics_markdown(metrics) in page


def test_names_follow_the_conventions_of_prometheus() -> None:
    """One name each, of one kind; a counter ends in _total, and what has a unit names it."""
    names = [metric.name for metric in ALL]
    assert len(names) == len(set(names))
    for metric in ALL:
        assert re.fullmatch(r"nomaflow_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.name.removesuffix("_total").endswith(metric.unit)
        assert metric.help.endswith(".")
        assert set(metric.labels) <= {"state", "kind", "host", "trigger", "reason", "version", "python"}, (
            "bounded ones only"
        )


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    """Each metric of an expression exists, and each that exists is shown, or left out on purpose."""
    shown = {name for panel in panels() for target in panel["targets"] for name in names_in(target["expr"])}
    assert shown - PROCESS == {metric.name for metric in ALL} - LEFT_OUT
    assert shown & PROCESS == PROCESS
    variables = {name for each in DASHBOARD["templating"]["list"] for name in names_in(each.get("definition", ""))}
    assert variables == LEFT_OUT


def test_a_counter_or_histogram_is_shown_as_a_rate() -> None:
    """A counter's or histogram's bare value mostly shows the age of the process, so panels show its rate."""
    counted = {metric.name for metric in ALL if metric.kind in ("counter", "histogram")}
    for panel in panels():
        for target in panel["targets"]:
            if names_in(target["expr"]) & counted:
                assert "rate(" in target["expr"], target["expr"]


def test_grafana_can_import_the_dashboard() -> None:
    """The dashboard has what Grafana's import needs: a schema, unique ids, separate places, a data source variable."""
    assert DASHBOARD["schemaVersion"] >= 36
    assert (DASHBOARD["id"], DASHBOARD["uid"]) == (None, "nomaflow")
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF")[: len(panel["targets"])]
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= set(variables), target["expr"]
            assert target["expr"].count("(") == target["expr"].count(")")
