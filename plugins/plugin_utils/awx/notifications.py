"""Notification templates: what AWX fills in, and texts in the one form in which AWX can be made to have them; never asks AWX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What AWX fills in of a configuration; without it the module would see a difference in each run.
DEFAULTS: dict[str, dict[str, Any]] = {
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


def _texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    return {part: (given or {}).get(part) or "" for part in ("message", "body")}
