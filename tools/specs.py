#!/usr/bin/env python3
"""Writes meta/argument_specs.yml of every role from its meta/inputs.yml, for ansible-doc: specs [--check]."""

import sys
from pathlib import Path

import yaml
from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Made from inputs.yml by: make specs. Inherited variables are filled in, for ansible-doc -t role; do not edit.\n---\n"


class Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice, and lists as the linters want them."""

    def ignore_aliases(self, data):
        """Never write an alias."""
        return True

    def increase_indent(self, flow=False, indentless=False):
        """Indent the items of a list."""
        super().increase_indent(flow, False)


def main() -> int:
    """Write the files, or with --check only tell which are stale."""
    init_plugin_loader([str(ROOT / "collections")])
    from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs

    stale = []
    for role in specs.load(folder=ROOT / "roles").values():
        file = ROOT / "roles" / role.name / "meta" / "argument_specs.yml"
        text = HEADER + yaml.dump(
            specs.argument_specs(role), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=140
        )
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            stale.append(str(file.relative_to(ROOT)))
            if "--check" not in sys.argv:
                file.write_text(text, encoding="utf-8")
    sys.stdout.write("\n".join(stale) + "\n" if stale else "argument_specs.yml of every role is up to date\n")
    return bool(stale) if "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())
