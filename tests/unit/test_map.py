"""docs/architecture.md has a line for every folder and module, and a module says in its first sentence what it never does."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "plugins" / "plugin_utils"
MODULES = sorted(str(path.relative_to(PYTHON)) for path in PYTHON.rglob("*.py"))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_module_is_on_the_map():
    named = re.findall(
        r"`((?:\w+/)?\w+\.py)`", ARCHITECTURE.partition("Below `plugins/plugin_utils/`")[2].partition("## Measured")[0]
    )
    assert sorted(named) == MODULES


def test_every_folder_is_on_the_map():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    tops = {path.split("/")[0] for path in tracked if "/" in path and not path.startswith(".")}
    roles = {"/".join(path.split("/")[:2]) for path in tracked if path.startswith("roles/")}
    plugins = {"/".join(path.split("/")[:2]) for path in tracked if path.startswith("plugins/")}
    missing = [
        name
        for name in tops | roles | plugins
        if f"`{name}" not in ARCHITECTURE and name not in {"plugins", "roles", "docs"}
    ]
    assert missing == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_for_and_what_it_never_does(module):
    first = (ast.get_docstring(ast.parse((PYTHON / module).read_text())) or "").split("\n\n")[0]
    assert re.search(r"\bnever\b|\bknows no\b|\bdoes no\b|\bnothing here\b", first), first
