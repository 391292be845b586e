"""Why AWX could not read a project or the source of an inventory, from what it keeps of the attempt; never starts one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.api import Awx

# The end of it says what went wrong.
SHOWN_CHARACTERS = 1000
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def why(awx: Awx, path: str, **query: Any) -> str:
    """Tell why the last update of an object failed, in AWX's words.

    Args:
        awx: where it is. path: of the list that has the object. query: what finds it there.

    Returns:
        what the task that failed said, or why the job did not start, or the end of its output.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    found = awx.list(path, **query)
    update = found[0]["related"].get("last_update") if found else None
    if not update:
        return "AWX keeps nothing of it"
    for event in awx.list(f"{update}events/", event="runner_on_failed"):
        if text := _said(event.get("event_data", {}).get("res", {})):
            return text
    text = awx.get(update).get("job_explanation") or awx.get(f"{update}stdout/", format="json").get("content", "")
    return _end(text) or "AWX says nothing of it"


def _said(result: Mapping[str, Any]) -> str:
    """What a task that failed said: a command's errors, else the module's message."""
    return _end(str(result.get("stderr") or result.get("msg") or ""))


def _end(text: str) -> str:
    return COLOUR.sub("", text).strip()[-SHOWN_CHARACTERS:]
