"""Notification templates: what AWX fills in, and texts in the one form in which AWX can be made to have them; never asks AWX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What AWX fills in of a configuration; without it the module would see a difference in each run.
DEFAULTS: dict[str, dict[str, Any]] = {
    "awssns": dict.fromkeys(
        ("aws_region", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "sns_topic_arn"), ""
    ),
    "webhook": {
        "http_method": "POST",
        "disable_ssl_verification": False,
        "username": "",
        "password": "",
        "headers": {},
    },
    "email": {"timeout": 30},
}
EVENTS, APPROVAL = ("started", "success", "error"), "workflow_approval"
OF_APPROVAL = ("running", "approved", "timed_out", "denied")


def messages(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the texts of a notification template with empty ones, for which AWX takes its own.

    AWX keeps a text that an update leaves out, so what the inventory dropped has to be said, and what AWX shows differs from what it was
    given.

    Args:
        given: in the form of AWX, as an inventory or AWX says them.
    """
    approval = given.get(APPROVAL) or {}
    return {
        **{event: _texts(given.get(event)) for event in EVENTS},
        APPROVAL: {event: _texts(approval.get(event)) for event in OF_APPROVAL},
    }


def problem(given: Mapping[str, Any]) -> str:
    """Say what is wrong with texts that an inventory gives, or nothing; arguments as for :func:`messages`."""
    known = {EVENTS: given, OF_APPROVAL: given.get(APPROVAL) or {}}
    for events, said in known.items():
        if not isinstance(said, Mapping) or (unknown := set(said) - {*events, APPROVAL}):
            return f"must have texts for {', '.join(events)}" + (
                f", not for {min(unknown)}" if isinstance(said, Mapping) else ""
            )
        for event in events:
            parts = said.get(event) or {}
            if not isinstance(parts, Mapping) or set(parts) - {"message", "body"}:
                return f"must have a message and a body for {event}, and nothing else"
            if "\n" in str(parts.get("message") or ""):
                return f"must have a message of one line for {event}; a body may have more"
    return ""


def _texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    return {part: (given or {}).get(part) or "" for part in ("message", "body")}
