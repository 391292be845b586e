"""When AWX starts something by itself: a time of day and days of the week as the iCal rule that AWX takes; never reads a clock."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterable

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
# AWX wants a first day. A fixed one in the past, so that the rule is the same in every run.
FIRST = "20260101"


def given(rule: str) -> str:
    """Give back a rule in the form of AWX.

    Raises:
        ValueError: it has not that form, in words that go on after the value.
    """
    if not re.fullmatch(r"DTSTART\S+(\s+\S*RULE:\S*INTERVAL=\S*)+", rule):
        raise ValueError("must have an rrule such as DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1")
    return rule


def rrule(at: str, days: Iterable[str] = (), time_zone: str = "UTC") -> str:
    """Write a rule.

    Args:
        at: time of day, ``HH:MM``.
        days: of ``DAYS``; none for every day.
        time_zone: a name of the tz database. The time is that of its clocks, in summer and winter.

    Returns:
        the text of AWX's field ``rrule``.

    Raises:
        ValueError: one of them is wrong, in words that go on after the value.
    """
    found = TIME.fullmatch(at)
    if not found:
        raise ValueError("must be a time of day such as 02:00, in quotes")
    days = list(days)
    if unknown := [day for day in days if day not in DAYS]:
        raise ValueError(f"has the day {unknown[0]!r}; the days are {', '.join(DAYS)}")
    if time_zone not in zoneinfo.available_timezones():
        raise ValueError("must have a time_zone of the tz database, such as Europe/Berlin")
    clock = f"{FIRST}T{''.join(found.groups())}00"
    start = f"DTSTART:{clock}Z" if time_zone == "UTC" else f"DTSTART;TZID={time_zone}:{clock}"
    if not days:
        return f"{start} RRULE:FREQ=DAILY;INTERVAL=1"
    return f"{start} RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY={','.join(day[:2].upper() for day in DAYS if day in days)}"
