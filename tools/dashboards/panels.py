"""How panels look: one function a kind, and the words for what a number means."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from tools.dashboards import queries
from tools.dashboards.board import DATASOURCE
from tools.dashboards.colours import BAD, GOOD, GREY, WARN

Panel = TypeVar("Panel", stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)
Step = tuple[float | None, str]
"""From which value on, which colour."""

NEAR: Final = 0.1
"""Within ten points of a target is nearly."""


def query(expression: str, legend: str = "__auto") -> prometheus.Dataquery:
    """Return a query over the time range."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().datasource(DATASOURCE)


def instant(expression: str, legend: str = "__auto") -> prometheus.Dataquery:
    """Return a query of the end of the time range."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).instant().datasource(DATASOURCE)


def column(expression: str) -> prometheus.Dataquery:
    """Return an instant query that makes a column of a table."""
    return instant(expression).format(prometheus_models.PromQueryFormat.TABLE)


def filled(
    panel: Panel, title: str, description: str, targets: Sequence[prometheus.Dataquery], *, no_value: str, unit: str
) -> Panel:
    """Give a panel its words, its unit and its queries, lettered from A on."""
    panel.title(title).description(description).datasource(DATASOURCE).no_value(no_value).unit(unit)
    for number, target in enumerate(targets):
        panel.with_target(target.ref_id(chr(ord("A") + number)))
    return panel


# Words.


def steps(*given: Step) -> dashboard.ThresholdsConfig:
    """Return thresholds."""
    found = [models.Threshold(value=value, color=colour) for value, colour in given]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


JUDGED: Final = steps((None, GREY), (-1, BAD), (-NEAR, WARN), (0, GOOD), (1.5, GREY))
"""Of a distance to a target. Grey also where there is no number at all."""


BY_THRESHOLDS: Final = dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)


def ranges(*given: tuple[float | None, float | None, str]) -> list[models.ValueMapping]:
    """Return words for ranges, ends included; where two meet, the first counts."""
    return [
        models.RangeMap(
            options=models.DashboardRangeMapOptions(
                from_val=low, to=high, result=models.ValueMappingResult(text=words, index=number)
            )
        )
        for number, (low, high, words) in enumerate(given)
    ]


Value = TypeVar("Value", int, str)


def exactly(words: Mapping[Value, str], colours: Mapping[Value, str] | None = None) -> models.ValueMap:
    """Return words for single values."""
    found = {
        str(value): models.ValueMappingResult(text=text, color=(colours or {}).get(value), index=100 + number)
        for number, (value, text) in enumerate(words.items())
    }
    return models.ValueMap(options=found)


NO_JUDGEMENT: Final[Mapping[int, str]] = {
    queries.TOO_FEW: "◦ too few calls",
    queries.CLOSED: "◦ closed",
    queries.NOT_POLLED: "✕ not polled",
    queries.UNKNOWN: "◦ not known yet",
}


def judgement_words(missed: str) -> list[models.ValueMapping]:
    """Return words for a distance to a target; `missed` is on which side of it a miss lies."""
    return [
        exactly(NO_JUDGEMENT),
        *ranges((0, 1, "▲ on target"), (-NEAR, 0, f"▼ just {missed} target"), (-1, -NEAR, f"▼▼ far {missed} target")),
    ]


# Kinds.


def figure(
    title: str, description: str, target: prometheus.Dataquery, no_value: str = "no numbers", unit: str = "short"
) -> stat.Panel:
    """Return one number, plain."""
    panel = filled(stat.Panel(), title, description, [target], no_value=no_value, unit=unit)
    return (
        panel.graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.NONE)
        .justify_mode(common_models.BigValueJustifyMode.CENTER)
        .text_mode(common_models.BigValueTextMode.VALUE)
        .orientation(common_models.VizOrientation.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .thresholds(steps((None, GREY)))
    )


def coloured(panel: stat.Panel, thresholds: dashboard.ThresholdsConfig) -> stat.Panel:
    """Fill a number's panel with the colour of its judgement."""
    solid = panel.color_mode(common_models.BigValueColorMode.BACKGROUND_SOLID)
    return solid.thresholds(thresholds).color_scheme(BY_THRESHOLDS)


def curves(
    title: str,
    description: str,
    targets: Sequence[prometheus.Dataquery],
    unit: str = "short",
    no_value: str = "nothing is known of this time",
) -> timeseries.Panel:
    """Return lines over time. Gaps stay gaps: there nothing is known."""
    panel = filled(timeseries.Panel(), title, description, targets, no_value=no_value, unit=unit)
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.LIST).show_legend(True)
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
    return (
        panel.legend(legend.placement(common_models.LegendPlacement.BOTTOM))
        .tooltip(tooltip)
        .line_width(2)
        .fill_opacity(0)
        .min(0)
        .show_points(common_models.VisibilityMode.NEVER)
        .interval("1m")
    )


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Put the lines of a panel on top of one another."""
    return panel.fill_opacity(40).stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))


def line(panel: timeseries.Panel, name: str, colour: str, *, dashed: bool = False) -> timeseries.Panel:
    """Give one line its colour, and dashes that tell it apart without the colour."""
    properties = [_property("color", {"mode": "fixed", "fixedColor": colour})]
    if dashed:
        properties.append(_property("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}))
    return panel.override_by_name(name, properties)


def _property(name: str, value: object) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val=name, value=value)


def timeline(
    title: str, description: str, target: prometheus.Dataquery, mappings: list[models.ValueMapping], no_value: str
) -> statetimeline.Panel:
    """Return states over time, in words and colours."""
    panel = filled(statetimeline.Panel(), title, description, [target], no_value=no_value, unit="short")
    return (
        panel.mappings(mappings)
        .thresholds(JUDGED)
        .color_scheme(BY_THRESHOLDS)
        .merge_values(True)
        .show_value(common_models.VisibilityMode.AUTO)
        .fill_opacity(80)
        .line_width(0)
        .interval("5m")
    )


# Tables.


class Column:
    """A column of a table: its heading, its query, its unit and how else it is shown. Without a heading it is not."""

    def __init__(self, heading: str, expression: str, unit: str, *properties: models.DynamicConfigValue) -> None:
        self.heading = heading
        self.expression = expression
        self.properties = [_property("unit", unit), *properties]


def judged_cell(mappings: list[models.ValueMapping]) -> list[models.DynamicConfigValue]:
    """Return how a distance to a target is shown in a cell: words on its colour."""
    return [
        _property("mappings", mappings),
        _property("thresholds", JUDGED.build()),
        _property("color", {"mode": "thresholds"}),
        _property("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
    ]


def linked_cell(*links: tuple[str, str]) -> list[models.DynamicConfigValue]:
    """Return that a cell links to other dashboards, by title and address."""
    return [_property("links", [{"title": title, "url": url, "targetBlank": False} for title, url in links])]


def rows(
    title: str,
    description: str,
    columns: Sequence[Column],
    labels: Mapping[str, str],
    *,
    sort_by: str,
    no_value: str = "-",
    hidden: Sequence[str] = (),
) -> table.Panel:
    """Return a table of what the columns' queries say about the same labels.

    `labels` are the headings of labels, `hidden` the labels that tell rows apart and are not shown. Each query must
    keep these alone: Grafana would take a metric's name for another column, and not put the rows together.
    """
    asked = [column(c.expression) for c in columns]
    panel = filled(table.Panel(), title, description, asked, no_value=no_value, unit="short")
    values = dict(zip(_value_fields(len(columns)), columns, strict=True))
    unseen = ["Time", *hidden, *(name for name, c in values.items() if not c.heading)]
    headings = {**labels, **{name: c.heading for name, c in values.items() if c.heading}}
    order = {name: number for number, name in enumerate(headings)}
    options = {"excludeByName": dict.fromkeys(unseen, True), "indexByName": order, "renameByName": headings}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=options))
    for c in columns:
        if c.heading:
            panel.override_by_name(c.heading, c.properties)
    return panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(False)]).filterable(True)


def _value_fields(columns: int) -> list[str]:
    """Return how Grafana calls the values of a table's queries."""
    return ["Value"] if columns == 1 else [f"Value #{chr(ord('A') + number)}" for number in range(columns)]
