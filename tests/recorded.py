"""A real Prometheus that holds a past and all that its rules would have recorded of it."""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml
from history import STEP, STRETCHES
from running import ROOT, Prometheus, answers, end, eventually, free_port

RULES: Final = ROOT / "prometheus" / "rules"
RECORDED: Final = re.compile(r"\b[a-z]+:[a-z0-9_]+:[a-z0-9_]+\b")
"""The name of a recorded series in an expression."""

Rule = dict[str, Any]


def rules() -> list[Rule]:
    """Return every rule of the files that are shipped."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def layers() -> Iterator[list[Rule]]:
    """Yield the rules so that each needs only what is recorded by those before; the alerts come last.

    An alert that holds is recorded as firing, since no evaluation of the past waits for its `for`.
    """
    waiting = [rule for rule in rules() if "record" in rule]
    while waiting:
        names = {rule["record"] for rule in waiting}
        ready = [rule for rule in waiting if names.isdisjoint(RECORDED.findall(rule["expr"]))]
        yield ready
        waiting = [rule for rule in waiting if rule not in ready]
    yield [
        {
            "record": "ALERTS",
            "expr": rule["expr"],
            "labels": {**rule["labels"], "alertname": rule["alert"], "alertstate": "firing"},
        }
        for rule in rules()
        if "alert" in rule
    ]


def load(openmetrics: Path, data: Path) -> None:
    """Make one block of what was scraped or recorded."""
    # Without the length, promtool would make a block for each two hours and read the whole file for each of them.
    command = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=1440h", "openmetrics"]
    done = subprocess.run([*command, str(openmetrics), str(data)], capture_output=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr.decode()


def record(data: Path) -> None:
    """Add to a Prometheus's data what its rules would have recorded.

    Not with promtool's own backfill of rules: it stumbles over an `or` of which one side keeps the metric's name.
    """
    path = data.with_suffix(".recorded")
    for layer in layers():
        with serving(data) as prometheus, path.open("w") as file:
            for rule in layer:
                file.writelines(_recorded(prometheus, rule))
            file.write("# EOF\n")
        load(path, data)


def _recorded(prometheus: Prometheus, rule: Rule) -> Iterator[str]:
    """Yield the lines of one rule's series, the name that an expression kept or lost replaced by its own."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for start, until in STRETCHES:
        asked = {"query": rule["expr"], "start": start.timestamp(), "end": until.timestamp(), "step": STEP.seconds}
        for series in prometheus.get("/api/v1/query_range?" + urlencode(asked))["result"]:
            labels = {**series["metric"], **rule.get("labels", {})}
            labels.pop("__name__", None)
            found[",".join(f"{key}={json.dumps(labels[key])}" for key in sorted(labels))] += series["values"]
    for labelled, values in found.items():
        yield from (f"{rule['record']}{{{labelled}}} {value} {at}\n" for at, value in sorted(values))


@contextmanager
def serving(data: Path) -> Iterator[Prometheus]:
    """Run a Prometheus on data; it scrapes nothing.

    What was imported has no marks of where series end, so it is told to look back no further than one scrape.
    """
    config = data.with_suffix(".config.json")
    config.write_text("{}")
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        "--query.lookback-delta=1m",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = data.with_suffix(".log")
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        eventually(lambda: answers(running.url + "/-/ready") or process.poll() is not None, "Prometheus to be ready")
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        end(process)


def copy(sources: Sequence[Path], data: Path) -> None:
    """Put the blocks of several Prometheuses' data together."""
    for source in sources:
        shutil.copytree(source, data, dirs_exist_ok=True)
