"""When AWX starts something by itself: a time of day and days of the week as the iCal rule that AWX takes; never reads a clock."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterable

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
# AWX wants a first day. A fixed one in the past, so that the rule is the same in every run.
FIRST = "20260101"
START = re.compile(r"DTSTART(?::\d+T\d+Z|;TZID=(?P<zone>[^:]+):\d+T\d+)")
PART = re.compile(r"(?:RRULE|EXRULE):\S*INTERVAL=\S*")
# What AWX does not take of a rule; an UNTIL in local time it takes and turns into another one, so that each run would find a difference.
NOT_TAKEN = {
    ".*SECONDLY": "no rule of seconds",
    r".*BYDAY=\d": "no number in BYDAY",
    r".*COUNT=\d{4}": "a COUNT below 1000",
    "(?=.*COUNT=).*UNTIL=": "one of COUNT and UNTIL",
    r".*UNTIL=(?!\d+T\d+Z)": "an UNTIL in UTC, such as 20261231T230000Z",
}


def given(rule: str) -> str:
    """Give back a rule in the form in which AWX keeps it: on one line.

    Raises:
        ValueError: AWX would refuse it, or keep it otherwise, in words that go on after the value.
    """
    rule = " ".join(rule.split())
    start, *parts = rule.split(" ")
    found = START.fullmatch(start)
    if not found or " RRULE:" not in rule or not all(PART.fullmatch(one) for one in parts):
        raise ValueError("must have an rrule such as DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1")
    if found["zone"]:
        _check_zone(found["zone"])
    for one in parts:
        for pattern, words in NOT_TAKEN.items():
            if re.match(pattern, one):
                raise ValueError(f"must have {words}, not {one}")
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
    _check_zone(time_zone)
    clock = f"{FIRST}T{''.join(found.groups())}00"
    start = f"DTSTART:{clock}Z" if time_zone == "UTC" else f"DTSTART;TZID={time_zone}:{clock}"
    if not days:
        return f"{start} RRULE:FREQ=DAILY;INTERVAL=1"
    return f"{start} RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY={','.join(day[:2].upper() for day in DAYS if day in days)}"


def _check_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValueError("must have a time_zone of the tz database, such as Europe/Berlin")
