"""What AWX has not read of projects and sources of inventories, and why, from what it keeps of the attempt; never starts one."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.api import Awx

# The end of it says what went wrong.
SHOWN_CHARACTERS = 1000
FAILED = "it failed, and no job that needs it can start."
# An update that has not ended.
GOING = ("new", "pending", "waiting", "running")
# Of what was made a moment ago, the first update may be about to begin.
AWAITED = ("never updated", *GOING)
LOOK_SECONDS = 1
# AWX has all that an update said only some time after its end.
OUTPUT_SECONDS = 30
# What AWX says of an update for which it could not fetch the project.
PREVIOUS = re.compile(r'^Previous Task Failed: .*"job_type": "project_update".*"job_id": "(\d+)"')
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def unread(awx: Awx, objects: Iterable[Mapping[str, Any]], organization: str, seconds: float = 0) -> list[str]:
    """Tell which projects or sources AWX has not read.

    Args:
        awx: where they are.
        objects: the projects by ``name``, or the sources by ``name`` and ``inventory``.
        organization: its name.
        seconds: how long to wait for updates that go on.

    Returns:
        a line for each, with the reason.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    until, found = time.monotonic() + seconds, []
    for one in objects:
        path, query, about = _place(one, organization)
        while (has := awx.list(path, **query)) and has[0]["status"] in AWAITED and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        if not has or has[0]["status"] != "successful":
            found.append(f"AWX has not {about}: {why(awx, path, **query)}")
    return found


def _place(one: Mapping[str, Any], organization: str) -> tuple[str, dict[str, str], str]:
    """Say in which list an object is, what finds it there, and in words what was to be done with it."""
    name = one["name"]
    if one.get("inventory"):
        query = {"inventory__name": one["inventory"], "inventory__organization__name": organization}
        about = f"read the source {name} of the inventory {one['inventory']} (awx_inventories)"
        return "inventory_sources/", {"name": name, **query}, about
    about = f"fetched the project {name} (awx_projects)"
    return "projects/", {"name": name, "organization__name": organization}, about


def why(awx: Awx, path: str, **query: Any) -> str:
    """Tell why the last update of an object failed, in AWX's words, or that it has not ended.

    Args:
        awx: where it is. path: of the list that has the object. query: what finds it there.

    Returns:
        a sentence with what the task that failed said, or why the job did not start, or the end of its output. What a source waited for
        in vain, its project, says it in its place.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    found = awx.list(path, **query)
    if found and found[0]["status"] in GOING:
        current = found[0]["related"].get("current_update")
        explanation = awx.get(current).get("job_explanation") if current else ""
        status = f"{found[0]['status']}: {explanation}" if explanation else found[0]["status"]
        return f"its update has not ended (status {status}). Look in AWX what it waits for; when it has ended, run this again"
    update = found[0]["related"].get("last_update") if found else None
    if not update:
        return f"{FAILED} AWX keeps nothing of it"
    return f"{FAILED} It says: {_reason(awx, update) or 'nothing'}"


def _reason(awx: Awx, update: str) -> str:
    about = _ended(awx, update)
    explanation = about.get("job_explanation") or ""
    if before := PREVIOUS.match(explanation):
        return _reason(awx, f"project_updates/{before[1]}/")
    # An inventory's update runs no tasks: AWX knows no kinds of its events, and refuses to look for one.
    for event in awx.list(f"{update}events/", event="runner_on_failed") if "project_updates/" in update else ():
        if text := _said(event.get("event_data", {}).get("res", {})):
            return text
    # Where it ended before it ran, such as without its image, AWX has the reason alone.
    return _end(explanation or _output(awx, update) or about.get("result_traceback") or "")


def _ended(awx: Awx, update: str) -> dict:
    """Read an update that has ended, as soon as AWX has its output."""
    until = time.monotonic() + OUTPUT_SECONDS
    while not (about := awx.get(update)).get("event_processing_finished", True) and time.monotonic() < until:
        time.sleep(1)
    return about


def _output(awx: Awx, update: str) -> str:
    """Read the output of an update. In no other form AWX gives it as plain text within JSON: by itself it is HTML."""
    form = {"format": "json", "content_format": "ansi", "content_encoding": "base64"}
    content = awx.get(f"{update}stdout/", **form).get("content", "")
    return base64.b64decode(content).decode("utf-8", "replace")


def _said(result: Mapping[str, Any]) -> str:
    """What a task that failed said: a command's errors, else the module's message."""
    return _end(str(result.get("stderr") or result.get("msg") or ""))


def _end(text: str) -> str:
    return COLOUR.sub("", text).strip()[-SHOWN_CHARACTERS:]
