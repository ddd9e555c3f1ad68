"""What is around the panels: variables, links, annotations; and a dashboard's JSON."""

import json
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from tools.dashboards.colours import BAD, GREY
from tools.dashboards.queries import DAY

TAG: Final = "vcc"
DATASOURCE: Final = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL: Final = ".+"
"""What All stands for, also of customers that come later."""


def empty(uid: str, title: str, description: str) -> builders.Dashboard:
    """Return a dashboard without panels."""
    links = builders.DashboardLink("VCC").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    datasource = builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return (
        builders.Dashboard(f"VCC / {title}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time("now/d", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(links.as_dropdown(True).include_vars(True).keep_time(True))
        .with_variable(datasource.description("The Prometheus that scrapes the exporter and has its rules."))
    )


# Variables.


def one(name: str, label: str, query: str, regex: str = "") -> builders.QueryVariable:
    """Return a variable of which one value is chosen."""
    variable = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE).regex(regex)
    return (
        variable.definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .include_all(False)
        .multi(False)
    )


def several(name: str, label: str, query: str, regex: str = "") -> builders.QueryVariable:
    """Return a variable of which several values or all are chosen."""
    current = models.VariableOption(text="All", value="$__all")
    return one(name, label, query, regex).multi(True).include_all(True).all_value(ALL).current(current)


def named(level: str, selector: str) -> tuple[str, str]:
    """Return query and pattern that offer projects or queues by name and pass their ids.

    Also those whose customer shows nothing just now.
    """
    known = f"last_over_time(queue:vcc_inbound_offered_calls:today{{{selector}}}[1d])"
    query = f"query_result(max by ({level}, {level}_name) ({known}))"
    return query, f'/{level}="(?<value>[^"]+)|{level}_name="(?<text>[^"]+)/g'


CUSTOMERS: Final = "label_values(vcc_customer_info, customer)"

# Annotations.


def alerts(customer: str) -> builders.AnnotationQuery:
    """Return a mark at each alert that fired; those that concern no customer, always."""
    selector = f'alertname=~"Vcc.*",alertstate="firing",customer=~"({customer})|"'
    return (
        builders.AnnotationQuery()
        .name("Alerts")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(BAD)
        .expr(f"max by (alertname, severity, customer, project) (ALERTS{{{selector}}})")
        .step("60s")
        .title_format("{{alertname}}")
        .text_format("{{customer}} {{project}}")
        .tag_keys("severity")
    )


def midnights(customer: str) -> builders.AnnotationQuery:
    """Return a mark where each customer's day begins, from which its numbers count."""
    return (
        builders.AnnotationQuery()
        .name("Midnight")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(GREY)
        .expr(f'1000 * {DAY}{{customer=~"{customer}"}}')
        .step("60s")
        .use_value_for_time(True)
        .title_format("Midnight")
        .text_format("The day of {{customer}} begins; its counts start at 0.")
    )


# JSON.


def finished(board: builders.Dashboard) -> models.Dashboard:
    """Return the dashboard with its panels numbered from 1, in reading order."""
    built = board.build()
    for number, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number
    return built


def text(board: models.Dashboard) -> str:
    """Return a dashboard's JSON."""
    decoded: dict[str, Any] = json.loads(JSONEncoder().encode(board))
    for key in ("id", "version", "revision"):
        decoded.pop(key, None)  # Grafana's own
    for shown in (*decoded["links"], *decoded["annotations"]["list"]):
        shown.pop("placement", None)  # the library would put it into a menu; we want it in view
    return json.dumps(decoded, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
