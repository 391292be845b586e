"""Renders the reports of all clusters as one HTML page that needs nothing beside itself; never asks a cluster, and escapes all that it is given.

Sorting and filtering is DataTables', the bars are Charts.css'; both are in ``assets/vendor`` (``tools/vendor.py``), and in the page.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from ansible_collections.modelyard.core.plugins.plugin_utils import compiled
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.report import findings, rows

ASSETS = Path(__file__).parent / "assets"
STYLES = ("vendor/charts.min.css", "report.css")
FIRST, SCRIPTS = "loading.js", ("vendor/dataTables.min.js", "report.js")
# Where they go in the template.
STYLE, SCRIPT = "<!--style-->", "<!--script-->"
# The parts of a GPU's memory, as in ``rows.memory`` and in words, in the order of the bars.
PARTS = {"weights": "weights", "kv": "KV cache", "lora": "LoRA", "reserve": "reserve", "free": "free"}
KINDS = {
    findings.BROKEN: "Broken",
    findings.DRIFTED: "Drifted",
    findings.LIMIT: "Close to a limit",
    findings.IDLE: "Idle and costing",
}
# What is worst is sorted first.
STATES = (rows.BROKEN, rows.ABSENT, rows.STARTING, rows.ELSEWHERE, rows.OFF, rows.PARKED, rows.READY)
# In place of what is not known.
UNSAID = "\N{EN DASH}"
# Of a host whose variables could not be read there is no more.
UNKNOWN = {
    "findings": [],
    "servers": [],
    "expected": [],
    "releases": [],
    "drift": [],
    "applications": [],
    "chains": [],
    "quotas": [],
    "unread": [],
    "problems": [],
    "identity": "not looked at",
    "cost_per_hour": None,
    "unpriced": [],
    "region": "",
    "delivery": "",
    "namespace": "",
    "at": "",
}


def render(reports: Iterable[Mapping], now: datetime | None = None) -> str:
    """Render the page.

    Args:
        reports: of ``modelyard.core.report``; of a host whose variables could not be read ``host``, ``cluster``, ``answers`` and ``why``.
        now: when the page is made; by default now.
    """
    clusters = [_cluster(report) for report in reports]
    styles, scripts = ([_asset(name) for name in names] for names in (STYLES, (FIRST, *SCRIPTS)))
    servers = [row for cluster in clusters for row in cluster["servers"]]
    costs = [cluster["cost_per_hour"] for cluster in clusters if cluster["cost_per_hour"] is not None]
    page = _environment().get_template("report.html.j2").render(
        now=now or datetime.now(UTC),
        clusters=clusters,
        needs={kind: _found(clusters, kind) for kind in findings.KINDS},
        kinds=KINDS,
        parts=PARTS,
        states=STATES,
        count=len(servers),
        ready=sum(row["state"] == rows.READY for row in servers),
        parked=sum(row["state"] == rows.PARKED for row in servers),
        silent=sum(not cluster["answers"] for cluster in clusters),
        total=sum(costs) if costs else None,
        unpriced=sorted({name for cluster in clusters for name in cluster["unpriced"]}),
        month_hours=rows.MONTH_HOURS,
        hashes=" ".join(_hash(text) for text in scripts),
    )  # fmt: skip
    # Spaces between elements are nodes of their own, half of the page's. What is kept as it is comes after that.
    head, _, body = re.sub(r">\s*\n\s*<", "><", page).partition(STYLE)
    main, _, end = body.partition(SCRIPT)
    first, *rest = (f"<script>{text}</script>" for text in scripts)
    return "".join([head, first, "<style>", *styles, "</style>", main, *rest, end])


def _cluster(report: Mapping) -> dict:
    """Complete a report, and give each server what is found about it, and a place of its own on the page."""
    found = {**UNKNOWN, **report}
    if not found["answers"] and not found["findings"]:
        found["findings"] = [{"kind": findings.BROKEN, "server": "", "text": findings.silence(found["why"])}]
    found["anchor"] = f"c-{_slug(found['host'])}"
    found["servers"] = [
        {
            **row,
            "anchor": f"s-{_slug(found['host'])}-{_slug(row['server'])}",
            "findings": [one for one in found["findings"] if one["server"] == row["server"]],
            "chain": next((chain for chain in found["chains"] if chain["service_account"] == _account(row)), None),
        }
        for row in found["servers"]
    ]
    return found


def _account(row: Mapping) -> str:
    return f"{row['account']['namespace']}/{row['account']['name']}" if row["account"] else ""


def _slug(name: str) -> str:
    """Give the part of an anchor for a name: another one for each."""
    return "".join(letter if letter.isalnum() or letter == "-" else f"_{ord(letter):x}_" for letter in name)


def _found(clusters: list[dict], kind: str) -> list[dict]:
    """Give the findings of one kind, each with its cluster's name and where on the page more is told."""
    return [
        {
            **one,
            "cluster": cluster["cluster"],
            "anchor": next((row["anchor"] for row in cluster["servers"] if row["server"] == one["server"]), cluster["anchor"]),
        }
        for cluster in clusters
        for one in cluster["findings"]
        if one["kind"] == kind
    ]  # fmt: skip


@functools.cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8").strip()


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@functools.cache
def _environment() -> jinja2.Environment:
    # What is constant is filtered when a template is compiled: with the filters here, and those of Jinja.
    kept = compiled.folder("templates", __file__, jinja2.__version__)
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(kept)) if kept else None,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "gib": lambda size: f"{size / GIB:.1f}",
        "size": lambda share: f"{round(share, 3):g}",
        "percent": lambda share: f"{share:.0%}",
        "dollars": lambda cost: UNSAID if cost is None else f"${cost:,.2f}",
        "whole_dollars": lambda cost: UNSAID if cost is None else f"${cost:,.0f}",
        "lasting": lambda seconds: UNSAID if seconds is None else findings.lasting(seconds),
        "time": _time,
    }
    return found


def _time(value: str | datetime) -> str:
    """Write a time for people, in UTC; one that can't be read as it stands."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return f"{moment.astimezone(UTC):%d %b %Y, %H:%M} UTC"
    except (ValueError, OverflowError):
        return str(value)
