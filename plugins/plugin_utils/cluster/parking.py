"""Reads and writes the note that a server is parked, an annotation of its Deployment; never scales anything.

Whoever parks and wakes writes under a field manager of its own, so that a run, and Argo CD, leave to it what it set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

# The annotation, a JSON object: by, since, until, reason, replicas.
NOTE = "modelyard/parked"
MANAGER = "modelyard-park"
# Who parked a server that has no note.
SCHEDULE = "its schedule"


def read(deployment: Mapping | None) -> dict:
    """Give what is noted of a parked server.

    Args:
        deployment: the live Deployment, or none.

    Returns:
        ``by`` (who), ``since`` and ``until`` (RFC 3339, UTC, whole seconds; ``until`` is ``""`` for no end), ``reason``, and
        ``replicas`` (its pods before, which waking brings back; 0 where that is not known). Empty for a server that is not parked,
        also where somebody else has started it since. A note that can't be read is one of which only the text is known, as ``reason``.
        A schedule writes no note: it may change nothing but the number of pods, and is known by having done so.
    """
    if not deployment or deployment.get("spec", {}).get("replicas", 0):
        return {}
    text = (deployment["metadata"].get("annotations") or {}).get(NOTE)
    if not text:
        return _scheduled(deployment)
    try:
        found = json.loads(text)
        replicas = int(found.get("replicas", 1))
        return {key: str(found.get(key) or "") for key in ("by", "since", "until", "reason")} | {"replicas": replicas}
    except (ValueError, TypeError, AttributeError):
        return {"by": "", "since": "", "until": "", "reason": text, "replicas": 1}


def _scheduled(deployment: Mapping) -> dict:
    """Give what is known of a server that its schedule has parked, or nothing."""
    entry = next((entry for entry in entries(deployment) if entry.get("subresource") == "scale"), None)
    if not entry or "f:replicas" not in entry["fieldsV1"].get("f:spec", {}):
        return {}
    return {"by": SCHEDULE, "since": entry.get("time", ""), "until": "", "reason": "", "replicas": 0}


def told(note: Mapping) -> str:
    """Say who parked a server, since when, until when and why: ``parked by ann@laptop since ... until ...: no evaluation``."""
    by = f" by {note['by']}" if note["by"] else ""
    times = "".join(f" {word} {note[word]}" for word in ("since", "until") if note[word])
    return f"parked{by}{times}" + (f": {note['reason']}" if note["reason"] else "")


def entries(item: Mapping) -> list[dict]:
    """Give what of an object's ``managedFields`` those hold who park and wake."""
    return [entry for entry in item["metadata"].get("managedFields") or [] if entry["manager"] == MANAGER]


def write(note: Mapping) -> str:
    """Give the annotation's value of what :func:`read` gives."""
    return json.dumps(dict(note), sort_keys=True)
