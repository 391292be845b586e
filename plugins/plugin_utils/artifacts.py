"""Makes of what an action found the part that a run hands on (``ansible_stats``): plain, small, without credentials; never reads anything.

Ansible takes ``ansible_stats`` from the result of any action that succeeds, in check mode too, as it does from set_stats (ansible-core
2.19 to 2.21, plugins/strategy), and merges dictionaries over hosts and batches. AWX keeps that as the job's artifacts, and gives it to
the next nodes of a workflow as extra variables. docs/artifacts.schema.json has every key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding

RESULTS, APPROVED = "modelyard_results", "apply_approved"
# Of all clusters of a run together, as JSON: an event of AWX has at most 700 kB, and this is a part of one.
RESULTS_BYTES, APPROVED_BYTES = 120_000, 80_000
# Of quotes, braces and "more", which stand around what is counted.
FRAME = 24
# Characters of a line.
LONGEST = 300
# What would be a template to whom gets it as a variable: the lines of an alert have such.
TEMPLATE = re.compile(r"\{(?=[{%#])")


def handed(what: Mapping[str, Mapping], size: float) -> dict[str, dict]:
    """Give what a run may hand on of one cluster.

    Args:
        what: what was done (``deploy``, ``smoke``) to its keys: numbers, texts, lists of texts or of flat dictionaries.
        size: how many bytes it may have, as JSON.

    Returns:
        the same without credentials, its texts cut; where it is too large the longest lists end earlier, and ``more`` says of each how
        many of its items are left out; where that is not enough, the numbers alone, and in the end nothing.
    """
    found = {name: small(keys, size / len(what) - len(name) - FRAME) for name, keys in what.items()}
    return {name: keys for name, keys in found.items() if keys}


def small(keys: Mapping[str, Any], size: float) -> dict:
    """Do so with the keys of one thing that was done."""
    kept, more = plain(keys), {}
    while _bytes(kept) + _bytes(more) > size:
        lists = {key: _bytes(items) for key, items in kept.items() if isinstance(items, list) and items}
        if not lists:
            numbers = {key: item for key, item in kept.items() if isinstance(item, int | float)} | _told(more)
            return numbers if _bytes(numbers) <= size else {}
        longest = max(lists, key=lambda key: lists[key])
        stay = len(kept[longest]) * 3 // 4
        more[longest] = more.get(longest, 0) + len(kept[longest]) - stay
        kept[longest] = kept[longest][:stay]
    return kept | _told(more)


def _told(more: Mapping[str, int]) -> dict:
    return {"more": dict(more)} if more else {}


def plain(value: Any) -> Any:
    """Give a copy of a value without what has the form of a credential, its texts cut, and none of them a template."""
    return _cut(hiding.hide(value))


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        text = TEMPLATE.sub("{ ", value)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    if isinstance(value, Mapping):
        return {str(key): _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list | tuple) else value


def _bytes(value: Any) -> int:
    return len(json.dumps(value))
