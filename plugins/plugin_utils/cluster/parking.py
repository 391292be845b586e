"""Reads and writes the note that a server is parked, an annotation of its Deployment; never scales anything.

Whoever parks and wakes writes under a field manager of its own, so that a run, and Argo CD, leave to it what it set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields

# The annotation, a JSON object: by, since, until, reason, replicas.
NOTE = "modelyard/parked"
MANAGER = "modelyard-park"
# The annotation of a server with a schedule, in words.
SCHEDULE = "modelyard/schedule"
# Of one whose pods are ended for those of another in its place (cluster/switching.py): whoever applies it next starts it.
SWITCH = "modelyard/switch"
# Of one that an evaluation has woken, which parks it in the end (cluster/gating.py).
GATE = "modelyard/gate"

TIME = "%Y-%m-%dT%H:%M:%SZ"
# At least one of the three, each of few digits.
SPAN = re.compile(r"(?=\d)(?:(?P<days>\d{1,4})d)?(?:(?P<hours>\d{1,5})h)?(?:(?P<minutes>\d{1,6})m)?")


def read(deployment: Mapping | None) -> dict:
    """Give what is noted of a parked server.

    Args:
        deployment: the live Deployment, or none.

    Returns:
        ``by`` (who), ``since`` and ``until`` (RFC 3339, UTC, whole seconds; ``until`` is ``""`` for no end), ``reason``, and
        ``replicas`` (its pods before, which waking brings back; 0 where that is not known). Empty for a server that is not parked,
        also where somebody else has started it since. A note that can't be read is one of which only the text is known, as ``reason``.
        A schedule writes no note, since it may change nothing but the number of pods; and of who makes that zero through the
        subresource ``scale`` the API server keeps no record (Kubernetes 1.37). So a server with a schedule and without pods is
        parked by that.
    """
    if not deployment or deployment.get("spec", {}).get("replicas", 0):
        return {}
    annotations = deployment["metadata"].get("annotations") or {}
    text, times = annotations.get(NOTE), annotations.get(SCHEDULE)
    found = _noted(text) if text else {}
    # Parked after a switch was cut off it is parked; what was noted before that is of no account.
    if SWITCH in annotations and not _later(found, annotations[SWITCH]):
        return {}
    if not text:
        return {"by": "its schedule", "since": "", "until": "", "reason": times, "replicas": 0} if times else {}
    return found


def _noted(text: str) -> dict:
    try:
        found = json.loads(text)
        replicas = int(found.get("replicas", 1))
        return {key: str(found.get(key) or "") for key in ("by", "since", "until", "reason")} | {"replicas": replicas}
    except (ValueError, TypeError, AttributeError):
        return {"by": "", "since": "", "until": "", "reason": text, "replicas": 1}


def _later(note: Mapping, switch: str) -> bool:
    """Tell whether a server was parked after its switch began, to the second."""
    try:
        began = datetime.fromisoformat(json.loads(switch)["since"]).replace(microsecond=0)
        return datetime.fromisoformat(note["since"]) >= began
    except (ValueError, KeyError, TypeError):
        return False


def told(note: Mapping) -> str:
    """Say who parked a server, since when, until when and why: ``parked by ann@laptop since ... until ...: no evaluation``."""
    by = f" by {note['by']}" if note["by"] else ""
    times = "".join(f" {word} {note[word]}" for word in ("since", "until") if note[word])
    return f"parked{by}{times}" + (f": {note['reason']}" if note["reason"] else "")


def hours(note: Mapping, now: datetime | None) -> float:
    """Give for how many hours a server has been parked; 0 where that is not known."""
    try:
        return max(0.0, ((now or datetime.now(UTC)) - datetime.fromisoformat(note["since"])).total_seconds() / 3600)
    except (KeyError, ValueError, TypeError):
        return 0.0


def until(text: str, now: datetime | None) -> str:
    """Read when a server is to be woken.

    Args:
        text: a time with its zone (RFC 3339), or how long from now: ``12h``, ``3d``, ``1d12h``; ``""`` for no end.
        now: by the API server's clock.

    Returns:
        the time as it is noted.

    Raises:
        ValueError: it is none of these, or in the past; with what would be right.
    """
    if not text:
        return ""
    now = now or datetime.now(UTC)
    try:
        span = SPAN.fullmatch(text)
        end = datetime.fromisoformat(text) if not span else now + timedelta(**_whole(span.groupdict()))
        utc = end.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-12-01T07:00:00Z, or how long: 12h, 3d, 1d12h") from None
    if end.tzinfo is None:
        raise ValueError("must have its time zone, as in 2026-12-01T07:00:00Z or 2026-12-01T07:00:00+01:00")
    if utc <= now:
        raise ValueError(f"must be later than now, {now.astimezone(UTC).strftime(TIME)}")
    return utc.strftime(TIME)


def _whole(parts: Mapping[str, str | None]) -> dict[str, int]:
    return {unit: int(number) for unit, number in parts.items() if number}


def overdue(note: Mapping, now: datetime | None) -> bool:
    """Tell whether a parked server was to be woken by now; never where the note has no end, or none that can be read."""
    try:
        return datetime.fromisoformat(note["until"]) < (now or datetime.now(UTC))
    except (KeyError, ValueError, TypeError):
        return False


def _evaluates(live: Mapping, now: datetime | None) -> bool:
    """Tell whether a server is awake for an evaluation, and the time at which the cluster parks it is yet to come."""
    try:
        note = json.loads((live["metadata"].get("annotations") or {})[GATE])
        return bool(live["spec"]["replicas"]) and datetime.fromisoformat(note["until"]) >= (now or datetime.now(UTC))
    except (KeyError, ValueError, TypeError):
        return False


def left(
    item: dict, live: Mapping | None, manager: str, adoptable: list[str], now: datetime | None = None
) -> tuple[dict, list[str]]:
    """Give an object as a run applies it: a parked server stays parked, and the number of pods to whom it belongs.

    Args:
        item: the object.
        live: what there is of it, or none.
        manager: our field manager.
        adoptable: patterns of managers whose fields a run takes over.
        now: by the API server's clock; by this machine's where it is not known.

    Returns:
        the object, and those patterns: what parking left behind is taken over where it stands against the inventory.
    """
    if item["kind"] != "Deployment" or not live:
        return item, adoptable
    there, annotations = live["spec"]["replicas"], live["metadata"].get("annotations") or {}
    noted, evaluates = NOTE in annotations, _evaluates(live, now)
    scheduled = SCHEDULE in item["metadata"].get("annotations", {})
    own = fields.split(live, manager, [])[0]
    ours = "f:replicas" in own.get("f:spec", {})
    # A schedule that goes leaves nobody who would wake it.
    parked = bool(read(live)) and (noted or scheduled)
    if not there and not parked and "replicas" not in item["spec"]:
        # An autoscaler leaves alone what has no pods. Whoever else made it zero has done so for good.
        if ours or entries(live) or SWITCH in annotations or SCHEDULE in annotations:
            return {**item, "spec": {**item["spec"], "replicas": _switched(annotations) or 1}}, [*adoptable, MANAGER]
        return item, adoptable
    if not parked and not entries(live) and not (scheduled and not ours):
        return item, adoptable
    if not parked and not evaluates and (noted or item["spec"].get("replicas") != there):
        return item, [*adoptable, MANAGER]
    spec = {key: value for key, value in item["spec"].items() if key != "replicas"}
    said = item["metadata"].get("annotations", {})
    notes = {key: value for key, value in said.items() if key != NOTE}
    # Of a field that is left out, what we hold would go.
    spec |= {"replicas": there} if ours else {}
    notes |= {NOTE: annotations[NOTE]} if f"f:{NOTE}" in own.get("f:metadata", {}).get("f:annotations", {}) else {}
    metadata = item["metadata"] if notes == said else {**item["metadata"], "annotations": notes}
    return {**item, "metadata": metadata, "spec": spec}, adoptable


def _switched(annotations: Mapping) -> int:
    """Give the pods that a server had before a switch that was cut off; 0 where none was."""
    try:
        return int(json.loads(annotations[SWITCH])["replicas"])
    except (ValueError, KeyError, TypeError):
        return 0


def entries(item: Mapping) -> list[dict]:
    """Give what of an object's ``managedFields`` those hold who park and wake."""
    return [entry for entry in item["metadata"].get("managedFields") or [] if entry["manager"] == MANAGER]


def write(note: Mapping) -> str:
    """Give the annotation's value of what :func:`read` gives."""
    return json.dumps(dict(note), sort_keys=True)
