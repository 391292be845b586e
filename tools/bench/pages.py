"""What was measured, as a page with plots, as Markdown, and in docs/benchmark.md. Nothing here measures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from measuring import REQUESTS, ROOT

HERE = Path(__file__).parent
CHARTS = ROOT / "plugins/plugin_utils/report/assets/vendor/charts.min.css"
DOCS = ROOT / "docs/benchmark.md"
BETWEEN = re.compile(r"(?s)(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)")
TITLES = {
    "nochange": "A run with nothing to change",
    "first": "A first deploy",
    "rendering": "Rendering",
    "clusters": "Several clusters in one run",
}
TIMES = ("s", "range, s", "CPU s")
MEMORY = {"main_mib": "main process MiB", "fork_mib": "largest fork MiB", "sum_mib": "all together MiB"}


@dataclass
class Chart:
    """Bars: a row for each name, and a bar in it for each series."""

    caption: str
    unit: str
    series: Sequence[str]
    rows: list[tuple[str, list[float]]]

    @property
    def most(self) -> float:
        """The longest bar's number."""
        return max((value for _, values in self.rows for value in values), default=0) or 1


@dataclass
class Section:
    """A part's table and plots."""

    name: str
    load: list[float]
    columns: list[str]
    rows: list[list[str]]
    charts: list[Chart] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The heading."""
        return TITLES[self.name]


def rounded(value: Any) -> Any:
    """The figures with three decimals."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def sections(found: Mapping) -> list[Section]:
    """The parts that were measured, as tables and plots."""
    return [
        _several(name, part) if name == "clusters" else _compared(name, part) for name, part in found["parts"].items()
    ]


def _times(figures: Mapping) -> list[str]:
    wall, cpu = figures["wall"], figures["cpu"]
    return [f"{wall['median']:.2f}", f"{wall['min']:.2f} to {wall['max']:.2f}", f"{cpu['median']:.2f}"]


def _chart(tools: Mapping[str, Mapping]) -> Chart:
    rows = [(name, [figures[key]["median"] for key in ("wall", "cpu")]) for name, figures in tools.items()]
    return Chart("Seconds, medians", "s", ("from start to end", "CPU time"), rows)


def _compared(name: str, part: Mapping) -> Section:
    tools = part["tools"]
    asked = any("requests" in figures for figures in tools.values())
    columns = ["", *TIMES, *(["requests", *REQUESTS] if asked else [])]
    rows, charts = [], [_chart(tools)]
    for tool, figures in tools.items():
        counts = figures.get("requests", {})
        rows.append(
            [tool, *_times(figures), *([str(counts.get(key, 0)) for key in ("all", *REQUESTS)] if asked else [])]
        )
    if asked:
        numbers = [(tool, [one["requests"]["all"]]) for tool, one in tools.items() if "requests" in one]
        charts.append(Chart("Requests to the API server", "", ("requests",), numbers))
    return Section(name, part["load"], columns, rows, charts)


def _several(name: str, part: Mapping) -> Section:
    clusters, further = part["clusters"], part["further"]
    memory = [key for key in MEMORY if all(key in figures for figures in clusters.values())]
    rows = [
        [_count(count), *_times(figures), *(f"{figures[key]['median']:.0f}" for key in memory)]
        for count, figures in clusters.items()
    ]
    if further["wall"] is not None:
        slopes = [f"{further['wall']:.2f}", "", f"{further['cpu']:.2f}"]
        rows.append(["each further cluster", *slopes, *(f"{further[key]:.1f}" for key in memory)])
    rows += [
        [f"{tool}, one cluster", *_times(figures), *("" for _ in memory)] for tool, figures in part["kubectl"].items()
    ]
    named = {_count(count): figures for count, figures in clusters.items()}
    charts = [_chart(named)]
    if memory:
        shown = [(count, [figures[key]["median"] for key in memory]) for count, figures in named.items()]
        charts.append(Chart("Memory, MiB", "MiB", [MEMORY[key].removesuffix(" MiB") for key in memory], shown))
    return Section(name, part["load"], ["", *TIMES, *(MEMORY[key] for key in memory)], rows, charts)


def _count(count: str) -> str:
    return f"{count} cluster{'s' if count != '1' else ''}"


def goals(found: Mapping) -> list[list[str]]:
    """A row for each goal: what it is, found, limit, met or not."""
    return [
        [
            goal["goal"],
            f"{goal['found']:.3g} {goal['unit']}".strip(),
            f"{goal['limit']:.3g} {goal['unit']}".strip(),
            "met" if goal["met"] else "not met",
        ]
        for goal in found["goals"]
    ]


def facts(found: Mapping) -> dict[str, str]:
    """What is said of the machine and the run: name to text."""
    machine = found["machine"]
    return {
        "when": f"{found['began']}, for {found['took_seconds']} s",
        "machine": f"{machine['processors']} processors ({machine['processor']}), {machine['memory']}, {machine['system']}, Python {machine['python']}",
        "load before": f"{found['load_before']}",
        "what was deployed": f"{found['objects']} objects, {found['runs']} runs of each after one that does not count",
        "versions": ", ".join(f"{name} {version.removeprefix('v')}" for name, version in found["versions"].items()),
        **{f"left out: {name}": why for name, why in found["left_out"].items()},
        **{f"failed: {name}": why.partition("\n")[0] for name, why in found["failed"].items()},
    }


def markdown(found: Mapping) -> str:
    """The figures as Markdown."""
    parts = [f"{name[0].upper()}{name[1:]}: {text}.  " for name, text in facts(found).items()]
    if found["goals"]:
        parts += ["", *_table(["goal", "found", "limit", ""], goals(found))]
    for section in sections(found):
        load = " to ".join(map(str, section.load))
        parts += ["", f"### {section.title}", "", f"Load {load}.", "", *_table(section.columns, section.rows)]
    return "\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def page(found: Mapping) -> str:
    """The figures as one HTML page, with all that it needs inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        style=CHARTS.read_text() + (HERE / "page.css").read_text(),
        facts=facts(found),
        goals=goals(found),
        sections=sections(found),
    )


def write_docs(found: Mapping, file: Path = DOCS) -> None:
    """Put the figures into a document, between its two marks, instead of what stands there."""
    text = markdown(found)
    file.write_text(BETWEEN.sub(lambda _: f"\n{text}\n", file.read_text()))
