"""What the committed dashboards ask Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from rendering import ROOT

FILES = {path.parts[-3]: path for path in sorted(ROOT.glob("roles/*/files/dashboard.json"))}
# What Grafana puts in for its variables: all values, as a user sees a dashboard first.
VARIABLES = {"$__rate_interval": "5m", "$cluster": ".*", "$namespace": ".*", "$job": ".+", "$gpu_price": "1"}


def board(role: str) -> dict:
    return json.loads(FILES[role].read_text())


def filled(text: str) -> str:
    """A query with values for Grafana's variables."""
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


def queries() -> Iterator[tuple[str, str]]:
    """Every query of every panel: which one it is, and the query with values."""
    for role in FILES:
        for panel in board(role)["panels"]:
            for target in panel.get("targets", []):
                yield f"{role}: {panel['title']}, {target['refId']}", filled(target["expr"])


def variables() -> Iterator[str]:
    """The series that the lists of values are made of."""
    for role in FILES:
        for variable in board(role)["templating"]["list"]:
            if variable["type"] == "query":
                yield filled(re.fullmatch(r"label_values\((.*), (?:cluster|namespace|job)\)", variable["query"])[1])
