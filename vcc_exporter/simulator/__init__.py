"""A simulated VCC API with simulated call centres behind it, for the demo, for tests and for rehearsing alerts."""

from typing import Final

from vcc_exporter.simulator.api import Simulator
from vcc_exporter.simulator.calls import Centre
from vcc_exporter.simulator.centres import CENTRES, larger
from vcc_exporter.simulator.faults import Reply

__all__ = ["CENTRES", "DEMO_CENTRES", "DEMO_PORT", "Reply", "Simulator", "demo_config"]

DEMO_CENTRES: Final = tuple(larger(centre, 6) for centre in CENTRES)
"""The model's centres with so many calls that some end in each minute of the demo."""

DEMO_PORT: Final = 10743
"""Where the demo's simulator listens, if nothing else does."""

_EXTRAS: Final = {
    "bank": """\
    targets: {service_level: 80%, abandonment: 8%}
    hours: {mon-fri: "09:00-18:00"}
    labels: {tier: gold, region: europe}
    projects:
      - {id: 101, name: Retail banking, queues: {1101: Accounts, 1102: Loans}}
      - {id: 102, name: Lost cards, sla: 20, targets: {service_level: 90%}, queues: {1201: Card blocking}}
      - {id: 103, name: Personal bankers}
""",
    "webshop": """\
    targets: {service_level: 70%, abandonment: 15%}
    hours: {mon-sat: "08:00-20:00"}
    labels: {tier: silver, region: america}
""",
    "roadside": """\
    targets: {service_level: 90%, abandonment: 5%}
    labels: {tier: gold, region: europe}
""",
    "utility": """\
    targets: {service_level: 75%, abandonment: 10%}
    hours: {mon-fri: "07:00-20:00"}
    labels: {tier: silver, region: australia}
""",
}
"""What the config says of each centre beyond its account: promises that it keeps on most days."""


def demo_config(url: str) -> str:
    """Write the exporter's config, as YAML, for the demo's call centres at that address of a simulator."""
    return "poll: {interval: 15s}\ncustomers:\n" + "".join(_customer(centre, url) for centre in CENTRES)


def _customer(centre: Centre, url: str) -> str:
    return (
        f"  - name: {centre.customer}\n    url: {url}\n    api_key: {centre.key}\n"
        f"    timezone: {centre.zone}\n    sla: {centre.sla_s}\n{_EXTRAS[centre.customer]}"
    )
