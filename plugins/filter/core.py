"""Filters of modelyard.core: thin wrappers of what plugin_utils computes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import ownership
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import patch, triton, vllm


def _checked(compute: Callable[..., list[dict]]) -> Callable[..., dict]:
    """Give the servers, or none and what is wrong: the plan reports the problems of all roles together."""

    def filter_(*args: Any, **kwargs: Any) -> dict:
        problems = Problems()
        found = compute(*args, **kwargs, problems=problems)
        return {"servers": [] if problems.lines else found, "problems": problems.lines}

    return filter_


def checksum(value: object) -> str:
    """Give the sha256 of a value, for an annotation that rolls pods when it changes."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def questions(servers: list[Mapping]) -> list[dict]:
    """Keep of each server what the action smoke needs: its name, its Service, its questions."""
    return [{"name": item["name"], "service": item["service_name"], "questions": item["questions"]} for item in servers]


def misfits(servers: list[Mapping]) -> dict[str, list[str]]:
    """Keep of each server what the table of hardware profiles is too small for, by the name of its Deployment."""
    return {item["name"]: item["misfits"] for item in servers if item["misfits"]}


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, Callable]:
        """Name the filters."""
        return {
            "checksum": checksum,
            "ecr_registry": names.ecr_registry,
            "judge_server": _checked(vllm.judge),
            "misfits": misfits,
            "own": ownership.own,
            "patched": patch.patched,
            "questions": questions,
            "triton_servers": _checked(triton.servers),
            "vllm_server": _checked(vllm.server),
        }
