"""Words what a comparison with a cluster found, as lines and as plain values; never asks a cluster, and never shows a credential."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import difference, fields, hiding
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import describe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.edits import ORDER, Edit
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import COMPONENT


@dataclass(frozen=True)
class Found:
    """One thing that is not as the inventory says.

    Attributes:
        item: the object, of which kind, name and labels are read.
        edit: what of it. Beside the words of ``edits``, ``what`` is of a whole object: ``absent``, ``unwanted``, ``made`` (by
            another than a run), ``deleted`` (on its way out), ``application`` (what Argo CD says of one), ``aws``.
        note: what else to know of it.
    """

    item: Mapping
    edit: Edit
    note: str = ""

    def lines(self) -> list[str]:
        """Word it below the name of its object, the values of a long one below it."""
        edit, name = self.edit, fields.dotted(self.edit.path)
        wanted, live = (_shown(self.item, edit.path, value) for value in (edit.wanted, edit.live))
        by = f" ({who(edit.writer)})" if edit.writer else ""
        whole = {
            "absent": "absent",
            "unwanted": f"unwanted: it is ours, and nothing in the inventory asks for it{by}",
            "made": f"made by another than a run{by}",
            "deleted": f"deleted, and not gone yet{by}",
        }
        if edit.what in whole:
            return [whole[edit.what] + (f", {self.note}" if edit.what == "absent" and self.note else "")]
        if edit.what in ("application", "aws"):
            return [self.note]
        if edit.what == "added":
            return [f"added {name}: {_text(live)}; the inventory does not have it{by}"]
        if edit.what == "removed":
            return [f"removed {name}: the inventory says {_text(wanted)}"]
        below = [line for lines in difference.described(wanted, live, edit.path) for line in lines]
        listed = isinstance(wanted, (dict, list)) and edit.path[-1] != ORDER
        if listed or any("\n" in str(value) for value in (wanted, live)):
            below = [line.strip().removeprefix(name).lstrip(".") for line in below if line != f"{name}:"]
            signed = all(line.startswith(("- ", "+ ", "...")) for line in below)
            return [
                f"changed {name} ({'- inventory, + cluster' if signed else 'inventory -> cluster'}){by}",
                *(f"  {line}" for line in below),
            ]
        one, other = difference.sides(wanted, live)
        return [f"changed {name}: the inventory says {one}, the cluster {other}{by}"]

    def report(self) -> dict:
        """Give it as plain values."""
        edit, metadata = self.edit, self.item["metadata"]
        values = [_shown(self.item, edit.path, value) for value in (edit.wanted, edit.live)]
        wanted, live = values
        return {
            "kind": self.item["kind"],
            "namespace": metadata.get("namespace") or "",
            "name": metadata["name"],
            "component": (metadata.get("labels") or {}).get(COMPONENT, ""),
            "what": edit.what,
            "field": fields.dotted(edit.path),
            "inventory": wanted,
            "cluster": live,
            "by": edit.writer.get("manager", ""),
            "operation": edit.writer.get("operation", ""),
            "subresource": edit.writer.get("subresource", ""),
            "time": edit.writer.get("time", ""),
            "note": self.note,
        }


def who(writer: Mapping) -> str:
    """Say who wrote a field, how and when."""
    how = " of ".join(word for word in (writer.get("operation"), writer.get("subresource")) if word)
    return ", ".join(word for word in (writer.get("manager"), how, writer.get("time")) if word)


def told(found: list[Found]) -> list[str]:
    """Word findings under the name of each object, one field a line; what is true of an object as a whole stands beside it."""
    lines, before = [], None
    for one in found:
        name = describe(one.item)
        below = one.lines()
        if not one.edit.path and len(below) == 1 and one.edit.what != "made":
            lines.append(f"{below[0]}" if one.edit.what == "aws" else _beside(below[0], name))
            before = None
            continue
        if name != before:
            lines.append(f"{name}" + (f" ({one.note})" if one.note and one.edit.what != "application" else "") + ":")
            before = name
        lines += [f"  {line}" for line in below]
    return lines


def _beside(line: str, name: str) -> str:
    """Put an object's name behind the word that says what is wrong with it."""
    word, mark, rest = re.fullmatch(r"(\w+)([:,]?)(.*)", line, re.DOTALL).groups()
    return f"{word} {name}{mark}{rest}"


def _text(value: Any) -> str:
    return difference.sides(None, value)[1]


def _shown(item: Mapping, path: tuple, value: Any) -> Any:
    """Hide what is a credential, by its form, the name that it stands under, or the option that it follows."""
    if value is None:
        return None
    if item["kind"] == "Secret" and path[:1] in (("data",), ("stringData",)):
        return hiding.MARK
    name = path[-1] if path else ""
    if name == "value" and len(path) > 1 and path[-2].startswith("["):
        name = path[-2][1:-1]
    return hiding.hide({name: value})[name]
