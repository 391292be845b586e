"""Reads and writes the note that a server is parked, an annotation of its Deployment; never scales anything.

Whoever parks and wakes writes under a field manager of its own, so that a run, and Argo CD, leave to it what it set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

# The annotation, a JSON object: by, since, until, reason, replicas.
NOTE = "modelyard/parked"
MANAGER = "modelyard-park"


def read(deployment: Mapping | None) -> dict:
    """Give what is noted of a parked server.

    Args:
        deployment: the live Deployment, or none.

    Returns:
        ``by`` (who), ``since`` and ``until`` (RFC 3339, UTC, whole seconds; ``until`` is ``""`` for no end), ``reason``, and
        ``replicas`` (its pods before, which waking brings back). Empty for a server that is not parked. A note that can't be read
        is one of which only the text is known, as ``reason``.
    """
    annotations = (deployment or {"metadata": {}})["metadata"].get("annotations") or {}
    text = annotations.get(NOTE)
    if not text:
        return {}
    try:
        found = json.loads(text)
        replicas = int(found.get("replicas", 1))
        return {key: str(found.get(key) or "") for key in ("by", "since", "until", "reason")} | {"replicas": replicas}
    except (ValueError, TypeError, AttributeError):
        return {"by": "", "since": "", "until": "", "reason": text, "replicas": 1}


def write(note: Mapping) -> str:
    """Give the annotation's value of what :func:`read` gives."""
    return json.dumps(dict(note), sort_keys=True)
