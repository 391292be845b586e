"""Words an object, and what differs between two states of one, one field a line; knows no cluster and no owners."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields, hiding

# A value of more characters, and more lines of one field, are cut; --diff shows all of them.
LONGEST, MOST = 80, 12
# Of two long values that begin alike, this much of the beginning stays.
ALIKE = 16


def described(before: Any, after: Any, path: tuple = ()) -> list[list[str]]:
    """Say what differs.

    Args:
        before: an object, or a part of one.
        after: the same, as it is to be.
        path: where that part is, as in ``fields.changes``.

    Returns:
        the lines of each field that differs: one, ``spec.replicas 2 -> 1``; of a list, and of a text of several lines, its name
        and what goes (``- ``) and comes (``+ ``).
    """
    found: dict[str, list[str]] = {}
    for where, old, new in fields.changes(before, after, path):
        name = fields.dotted(where)
        if isinstance(old or new, list) and not (old and new):
            old, new = old or [], new or []
        if isinstance(old, list) and isinstance(new, list):
            for lines in _items(where, old, new):
                found.setdefault(lines[0], lines[:1]).extend(lines[1:])
        elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
            found[name] = [f"{name}:", *_signed(old.splitlines(), new.splitlines())]
        else:
            found[name] = [f"{name} {' -> '.join(sides(old, new))}"]
    return [_shortened(lines) for lines in found.values()]


def hidden(before: dict, after: dict, counts: Callable[[tuple], bool] = lambda path: True) -> list[list[str]]:
    """Say what differs, as :func:`described` does, and nothing of what has the form of a credential.

    Args:
        before: a whole object: by what stands around it a credential is known.
        after: the same, as it is to be.
        counts: tells of a path whether it is asked for.
    """
    shown = [change for change in fields.changes(hiding.hide(before), hiding.hide(after)) if counts(change[0])]
    paths = {path for path, *_ in shown}
    rest = [path for path, *_ in fields.changes(before, after) if counts(path) and path not in paths]
    lines = [words for path, old, new in shown for words in described(old, new, path)]
    return [*lines, *([f"{fields.dotted(path)}: a credential"] for path in rest)]


def sides(old: Any, new: Any) -> list[str]:
    """Write two values so that it shows where they differ, each in as many characters as a line has room for."""
    return _apart(_text(old), _text(new))


def essence(item: dict) -> str:
    """Say what matters of an object that is to be made: image, replicas and GPUs, or ports; of most kinds nothing."""
    spec = item.get("spec") or {}
    if item["kind"] == "Service":
        return ", ".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports") or [])
    if item["kind"] != "Deployment":
        return ""
    containers = spec["template"]["spec"]["containers"]
    gpus = sum(
        int(count)
        for container in containers
        for name, count in ((container.get("resources") or {}).get("limits") or {}).items()
        if name.endswith("/gpu")
    )
    replicas = spec.get("replicas")
    # None: an autoscaler's.
    counted = [] if replicas is None else [f"{replicas} replica{'s'[: replicas != 1]}"]
    counted += [f"{gpus} GPU{'s'[: gpus != 1]} each"] if gpus else []
    return ", ".join([*(container["image"] for container in containers), *counted])


def flat(lines: list[str]) -> str:
    """Write the lines of a field as one."""
    return " ".join(line.strip() for line in lines)


def _items(path: tuple, old: list, new: list) -> list[list[str]]:
    """Word two lists whose items carry no names: an item in the place of another by its fields, others as a whole."""
    known, wanted = ([_text(item) for item in items] for items in (old, new))
    name, found = fields.dotted(path), []
    for kind, start, end, first, last in difflib.SequenceMatcher(None, known, wanted, autojunk=False).get_opcodes():
        gone, come = old[start:end], new[first:last]
        if kind == "equal":
            continue
        if len(gone) == len(come) and all(isinstance(item, dict) for item in gone + come):
            for place, (one, other) in enumerate(zip(gone, come, strict=True), first):
                found += described(one, other, (*path, f"[{place}]"))
        else:
            found.append([f"{name}:", *_signed(_words(old, start, end), _words(new, first, last))])
    return found


def _words(items: list, start: int, end: int) -> list[str]:
    """Word some items of a list: an argument that follows its flag together with that."""
    words: list[str] = []
    for place in range(start, end):
        text, flag = _text(items[place]), str(items[place - 1]) if place else ""
        if flag.startswith("--") and "=" not in flag and not str(items[place]).startswith("-"):
            text = f"{_text(flag)} {text}"
            words = words[:-1] if place > start else words
        words.append(text)
    return words


def _signed(old: list[str], new: list[str]) -> list[str]:
    lines = []
    for kind, start, end, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            gone, come = old[start:end], new[first:last]
            if len(gone) == len(come):
                gone, come = zip(*(_apart(*pair) for pair in zip(gone, come, strict=True)), strict=True)
            lines += [f"  - {_cut(text)}" for text in gone] + [f"  + {_cut(text)}" for text in come]
    return lines


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - 1 - MOST
    return [*lines[: MOST + 1], f"  ... and {more} more lines: see --diff"] if more > 1 else lines


def _text(value: object) -> str:
    return "(none)" if value is None else json.dumps(value, default=str, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _apart(old: str, new: str) -> list[str]:
    """Shorten two texts in a way that shows where they differ."""
    alike = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    if alike > LONGEST - 2 * ALIKE and max(len(old), len(new)) > LONGEST:
        old, new = (f"...{text[alike - ALIKE :]}" for text in (old, new))
    return [_cut(old), _cut(new)]
