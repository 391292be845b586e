#!/usr/bin/env python3
"""Draws what README shows: a plan and a refusal, as the local cluster's runs print them (after make deploy), and a report of the tests' fleet.

pictures         all of them
pictures report  that of the report alone, in Chromium, which needs no cluster
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from rich.console import Console  # locked, since molecule needs it
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "images"
COLUMNS = 100
# Pixels of the report's picture.
WINDOW = (1440, 1060)
# Who reads the picture sees an inventory of their own, and no path of this machine.
INVENTORY = "clusters"
# rich's, without the font that it would fetch: a page shows a picture without it.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: ui-sans-serif, Arial, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
# What is changed in the inventory before each run: (file of group_vars/clusters, its new variables).
PICTURES = {
    "plan": (
        "A change, before it is written",
        ["--check"],
        {
            "triton": {"triton_enabled_profiles": ["cpu"], "triton_profiles": {"cpu": {"replicas": 3}}},
            "vllm": {"vllm_max_model_len": 8192},
        },
    ),
    "refusal": (
        "A change that can't work",
        [],
        {
            "triton": {"triton_replica": 3},
            "vllm": {"vllm_model": "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"},
        },
    ),
}


def main() -> int:
    """Draw them."""
    FOLDER.mkdir(exist_ok=True)
    report(FOLDER / "report.webp")
    if sys.argv[1:] == ["report"]:
        return 0
    for name, (title, options, changes) in PICTURES.items():
        with tempfile.TemporaryDirectory() as home:
            shutil.copytree(ROOT / "inventories" / "local", Path(home, INVENTORY))
            for file, variables in changes.items():
                path = Path(home, INVENTORY, "group_vars", "clusters", f"{file}.yml")
                there = yaml.safe_load(path.read_text(encoding="utf-8"))
                path.write_text(yaml.safe_dump({**there, **variables}, sort_keys=False), encoding="utf-8")
            command = ["ansible-playbook", "-i", INVENTORY, "playbooks/site.yml", *options]
            draw(FOLDER / f"{name}.svg", title, " ".join(command), run(home, command))
    return 0


def report(file: Path) -> None:
    """Write a picture of the report's page, of clusters that the tests make up."""
    sys.path.insert(0, str(ROOT / "tests"))
    # Found in tests, and the collection through the first of them.
    import conftest  # noqa: F401, I001
    import browser
    import fleet
    from ansible_collections.modelyard.core.plugins.plugin_utils.report import page

    with tempfile.TemporaryDirectory() as home, browser.opened() as tab:
        path = Path(home, "report.html")
        path.write_text(page.render(fleet.fleet(8), fleet.NOW), encoding="utf-8")
        tab.look(*WINDOW)
        tab.open(path)
        file.write_bytes(tab.picture(quality=85))


def run(home: str, command: list[str]) -> str:
    """Run a command of the project in a terminal of COLUMNS, with the inventory in `home`; returns its coloured output without paths of this machine."""
    # Where nobody says which, the local cluster of this checkout.
    kubeconfig = os.environ.get("MODELYARD_KUBECONFIG") or str(ROOT / ".local" / "kubeconfig")
    env = {**os.environ, "COLUMNS": str(COLUMNS), "ANSIBLE_FORCE_COLOR": "1", "MODELYARD_KUBECONFIG": kubeconfig}
    env.pop("ANSIBLE_NOCOLOR", None)
    words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    words[words.index(INVENTORY)] = str(Path(home, INVENTORY))
    done = subprocess.run(
        words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout.replace(f"{home}/", "").replace(kubeconfig, "~/.kube/config").replace(str(ROOT), "~/modelyard")


def draw(file: Path, title: str, command: str, output: str) -> None:
    """Write an SVG of a terminal in which a command printed something."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(output.rstrip("\n")))
    drawn = console.export_svg(title=title, theme=SVG_EXPORT_THEME, code_format=SVG, unique_id=file.stem)
    file.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
