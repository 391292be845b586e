"""Takes out of an inventory what has the form of a credential, and says where it stood; never looks one up."""

from __future__ import annotations

from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Adopted
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding

# A run refuses what an example left to be set.
UNSET = "CHANGE_ME"


def take_out(found: Adopted) -> None:
    """Take them out of all that was read of a server, in place; each setting that had one is told."""
    for key, value in found.settings.items():
        without = _replaced(hiding.hide(value))
        if without != value:
            found.settings[key] = without
            found.lost.append(f"{key}: has a credential, and {UNSET} in its place: put it into a Secret, and name that")
    found.lost[:] = map(hiding.hide_text, found.lost)
    found.notes[:] = map(hiding.hide_text, found.notes)


def _replaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner) for inner in value]
    return value.replace(hiding.MARK, UNSET) if isinstance(value, str) else value
