"""The report's page, opened in Chromium: its themes, a phone, a keyboard, and what axe-core finds; 64 clusters with six servers each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import fleet
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.report import page as pages

ROOT = Path(__file__).parents[1]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover='alert(3)"
# Of each row that is shown.
NAMES = "[...document.querySelectorAll('#servers > tbody > tr > th')].map(one => one.firstChild.textContent)"
COSTS = "[...document.querySelectorAll('#servers > tbody > tr > :nth-child(10)')].map(one => Number(one.dataset.order))"
FOCUSED = "document.activeElement.closest('#servers th')?.innerText.trim() ?? document.activeElement.id"


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Page]:
    with browser.opened() as page:
        yield page


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The page of the whole fleet."""
    return written(tmp_path_factory.mktemp("report") / "report.html", fleet.fleet())


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The page of five clusters, with every state that a server of the fleet has."""
    return written(tmp_path_factory.mktemp("small") / "report.html", fleet.fleet(5))


def written(path: Path, reports: list[dict]) -> Path:
    path.write_text(pages.render(reports), encoding="utf-8")
    return path


@pytest.fixture
def shown(tab, whole) -> browser.Page:
    """The page of the whole fleet, on a wide screen."""
    tab.look(1440)
    tab.open(whole)
    return tab


def test_it_asks_for_nothing_and_is_refused_nothing(shown, whole):
    assert shown.asked == [whole.as_uri()]
    assert shown.complaints == []
    assert shown.run("document.querySelectorAll('#servers > tbody > tr').length") == 63 * 6 + 1
    assert shown.run("document.querySelector('.dt-info').innerText") == "379 servers"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_axe_finds_nothing(tab, small, width, scheme):
    tab.look(width, scheme=scheme)
    tab.open(small)
    tab.run("document.querySelectorAll('details').forEach(one => one.setAttribute('open', ''))")
    assert tab.axe() == []


def test_it_fits_the_width_of_any_screen(tab, small):
    tab.open(small)
    for width in (320, 390, 768, 1408, 1409, 1920):
        tab.look(width)
        assert tab.run("document.documentElement.scrollWidth") == width


def test_it_sorts_and_filters_by_keyboard_alone(shown):
    tabs = 0
    while shown.run(FOCUSED) != "Cost":
        shown.press("Tab")
        tabs += 1
        assert tabs < 100
    for order, reverse in (("ascending", False), ("descending", True)):
        shown.press("Enter")
        shown.await_(f"document.activeElement.closest('th').ariaSort === '{order}'")
        shown.await_(
            f"JSON.stringify({COSTS}) === JSON.stringify({COSTS}.sort((a, b) => {'b - a' if reverse else 'a - b'}))"
        )
    shown.run("document.querySelector('.dt-search input').focus()")
    shown.type("prod judge parked")
    shown.await_(f"{NAMES}.every(name => name === 'judge-vllm')")
    assert set(shown.run(NAMES)) == {"judge-vllm"}
    assert "of 379" in shown.run("document.querySelector('.dt-info').innerText")
    assert shown.run("document.querySelector('.dt-info').role") == "status"
    # A finding's link brings back the row that it leads to.
    shown.run("document.querySelector('.card.broken a[href^=\"#s-\"]').click()")
    shown.await_("document.querySelector(location.hash) !== null")
    assert shown.run("document.querySelector(location.hash).innerText").startswith("vllm")


def test_the_words_of_a_silent_cluster_find_its_row(shown):
    shown.run("document.querySelector('.dt-search input').focus()")
    shown.type("timeout no answer")
    shown.await_(f"{NAMES}.length === 1")
    assert shown.run(NAMES) == ["no answer"]
    assert "10.0.12.7:6443 does not answer" in shown.run("document.querySelector('#servers > tbody').innerText")


def test_on_paper_all_is_open(shown):
    shown.run("dispatchEvent(new Event('beforeprint'))")
    assert shown.run("document.querySelectorAll('details:not([open])').length") == 0


def test_without_scripts_it_shows_all_the_same(tab, small):
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.look(1440)
        tab.open(small)
        root = tab.send("DOM.getDocument")["root"]["nodeId"]
        table = tab.send("DOM.querySelector", nodeId=root, selector="#servers")["nodeId"]
        assert tab.send("DOM.getBoxModel", nodeId=table)["model"]["height"] > 1000
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_what_a_cluster_says_runs_nowhere(tab, tmp_path):
    away = {"host": HOSTILE, "cluster": HOSTILE, "answers": False, "why": HOSTILE}
    tab.look(1440)
    tab.open(written(tmp_path / "report.html", [away]))
    assert tab.complaints == []
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in tab.events)
    assert HOSTILE in tab.run("document.querySelector('#servers').innerText")
