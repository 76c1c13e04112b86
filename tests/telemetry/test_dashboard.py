"""docs/grafana.json asks for series that there are, of labels that they have, and is importable."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localfusion.telemetry.engines import SERIES
from localfusion.telemetry.metrics import Metrics, Series
from localfusion.telemetry.traces import TRACE_SERIES

PAGE = Path(__file__).parents[2] / "docs" / "grafana.json"
DASHBOARD: dict[str, Any] = json.loads(PAGE.read_text())
KNOWN = {series.name: series for series in (*Metrics().series, *SERIES, *TRACE_SERIES)}
PANELS = {"timeseries", "stat", "state-timeline"}
VARIABLES = {"$preset", "$engine", "$__rate_interval"}


def samples(series: Series) -> dict[str, set[str]]:
    """Return the names under which a series is asked for, and the labels of each."""
    labels = set(series.labels)
    if series.kind != "histogram":
        return {series.name: labels}
    parts = {f"{series.name}_{part}": labels for part in ("sum", "count")}
    return parts | {f"{series.name}_bucket": labels | {"le"}}


ASKABLE = {name: labels for series in KNOWN.values() for name, labels in samples(series).items()}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[str]:
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


def test_every_query_asks_for_series_and_labels_that_there_are() -> None:
    for query in queries():
        names = re.findall(r"localfusion_\w+", query)
        assert names, query
        assert set(names) <= set(ASKABLE), query
        labels = set.union(*(ASKABLE[name] for name in names))
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert set(group.split(", ")) <= labels, query
        for name, matchers in re.findall(r"(localfusion_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= ASKABLE[name], query
        assert set(re.findall(r"\$\w+", query)) <= VARIABLES, query


def test_every_series_is_shown() -> None:
    shown = {name for query in queries() for name in re.findall(r"localfusion_\w+", query)}
    whole = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} | shown

    assert set(KNOWN) - whole == set()


def test_counters_are_asked_for_their_rate() -> None:
    for query in queries():
        for name in re.findall(r"localfusion_\w+", query):
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert re.search(rf"(rate|increase)\({name}", query), query


def test_legends_name_labels_that_the_query_leaves() -> None:
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            grouped = re.findall(r"by \(([^)]*)\)", query)
            name = re.findall(r"localfusion_\w+", query)[0]
            is_summed = "sum(" in query or grouped
            left = set(", ".join(grouped).split(", ")) if is_summed else ASKABLE[name]
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, query


def test_dashboard_can_be_imported() -> None:
    assert DASHBOARD["id"] is None  # Grafana gives one
    assert DASHBOARD["uid"] == "localfusion"
    assert DASHBOARD["schemaVersion"] >= 36
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "preset", "engine"}
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels():
        assert panel["type"] in PANELS
        assert panel["title"]
        assert panel["description"]
        for place in (panel, *panel["targets"]):
            assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
