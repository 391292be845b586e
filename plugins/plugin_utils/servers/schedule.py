"""Computes and checks when a server is parked and woken by itself; knows no kind, and never asks a cluster."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import needs
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

TEMPLATE = "schedule.yaml.j2"
# Of a CronJob's name 11 characters are for those of its Jobs: k8s.io/kubernetes/pkg/apis/batch/validation.
LONGEST_NAME = 52 - len("-park")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Name, least, most, and names of values: what the CronJob controller takes (github.com/robfig/cron, ParseStandard).
FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),
)
ITEM = re.compile(r"(?:(?P<all>[*?])|(?P<first>[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?)(?:/(?P<step>\d{1,3}))?", re.ASCII)


def compute(settings: Settings, namespace: str, image: str, server: Mapping) -> dict:
    """Compute a server's schedule.

    Args:
        settings: its settings.
        namespace: of the server.
        image: with kubectl.
        server: what is computed of it by now.

    Returns:
        ``schedule``: empty, or ``park``, ``wake``, ``time_zone``, ``namespace``, ``image`` and the number of ``pods`` that
        waking gives it; and the Deployment's annotations, one of which says so.
    """
    given = settings.get("schedule") or {}
    notes = server["deployment_annotations"]
    if not given:
        return {"schedule": {}, "deployment_annotations": notes}
    times = {key: str(given.get(key) or "") for key in ("park", "wake")}
    for key, text in times.items():
        if wrong := cron_error(text):
            settings.wrong(text, wrong, "schedule", key)
    if times["park"] == times["wake"]:
        settings.wrong(times["wake"], "is when the server is parked, too", "schedule", "wake")
    zone = str(given.get("time_zone") or "Etc/UTC")
    known = zoneinfo.available_timezones()
    if known and zone not in known:
        close = nearest(zone, known).partition(" Known:")[0]
        settings.wrong(zone, f"must be a time zone such as Europe/Berlin; {close}", "schedule", "time_zone")
    if settings.get("scaled_object"):
        allowed = "KEDA would start the server again: use a cron trigger of its own, with minReplicaCount 0"
        settings.wrong(dict(given), allowed, "schedule")
    if len(str(server["name"])) > LONGEST_NAME:
        allowed = f"must be of at most {LONGEST_NAME} characters where the server has a schedule"
        settings.wrong(server["name"], allowed, "name")
    told = f"park {times['park']}, wake {times['wake']}, {zone}"
    return {
        "schedule": {
            **times,
            "time_zone": zone,
            "namespace": namespace,
            "image": image,
            "pods": max(1, needs.pods(server)),
        },
        "deployment_annotations": {**notes, parking.SCHEDULE: told},
    }


def without(server: Mapping) -> dict:
    """Give what a server is without its schedule: one that the inventory parks is woken by nobody."""
    notes = {key: value for key, value in server["deployment_annotations"].items() if key != parking.SCHEDULE}
    return {"schedule": {}, "deployment_annotations": notes}


def cron_error(text: str) -> str | None:
    """Tell what is wrong with the five fields of a cron schedule, or None."""
    fields = text.split()
    if len(fields) != len(FIELDS):
        return "must be a cron schedule of five fields such as 0 20 * * 1-5"
    for field, (name, least, most, words) in zip(fields, FIELDS, strict=True):
        for item in field.lower().split(","):
            if not _is_item(item, least, most, words):
                return f"its {name}, {field}, must be of values from {least} to {most}, such as *, 1-5, 1,3 or */2"
    return None


def _is_item(item: str, least: int, most: int, words: tuple[str, ...]) -> bool:
    match = ITEM.fullmatch(item)
    if not match or (match["step"] is not None and not int(match["step"])):
        return False
    if match["all"]:
        return True
    values = [_value(match[key], least, words) for key in ("first", "last") if match[key] is not None]
    return all(least <= value <= most for value in values) and values == sorted(values)


def _value(text: str, least: int, words: tuple[str, ...]) -> int:
    if text in words:
        return least + words.index(text)
    return int(text) if text.isdecimal() and len(text) < 4 else -1
