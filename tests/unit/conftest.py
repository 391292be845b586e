"""The servers that are computed from the roles' own inputs, in this process."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from rendering import DESCRIBED, computed, prefixed


@pytest.fixture
def platform() -> dict[str, Any]:
    """The platform's variables that servers are computed with: a test may change them."""
    pools = copy.deepcopy(DESCRIBED["platform"].options["hardware_profiles"]["builtin"])
    return {"aws_account_id": "123456789012", "hardware_profiles": pools}


@pytest.fixture
def triton(platform: dict) -> Callable[..., tuple[list[dict], list[str]]]:
    """Compute Triton's servers: triton(enabled, profiles, variable=value...) gives servers and problems."""

    def compute(enabled: Any = ("cpu", "gpu"), profiles: dict | None = None, **given: Any) -> tuple:
        given = {"enabled_profiles": list(enabled), "profiles": profiles or {}, **given}
        return computed("triton", **prefixed("platform", platform), **prefixed("triton", given))

    return compute


@pytest.fixture
def servers(platform: dict) -> Callable[..., tuple[list[dict], list[str]]]:
    """Compute vLLM's servers: servers(enabled, profiles, variable=value...) gives servers and problems."""

    def compute(enabled: Any = ("vllm",), profiles: dict | None = None, **given: Any) -> tuple:
        given = {"enabled_profiles": list(enabled), "profiles": profiles or {}, **given}
        return computed("vllm", **prefixed("platform", platform), **prefixed("vllm", given))

    return compute


@pytest.fixture
def vllm(servers: Callable) -> Callable[..., tuple[dict, list[str]]]:
    """Compute vLLM's own server: vllm(variable=value...) gives the server and problems."""

    def compute(**given: Any) -> tuple:
        found, lines = servers(**given)
        return found[0] if found else {}, lines

    return compute


@pytest.fixture
def judge(platform: dict) -> Callable[..., tuple[list[dict], list[str]]]:
    """Compute the judge's server: judge(variant, variants, variable=value...) gives servers and problems."""

    def compute(variant: str = "judge", variants: dict | None = None, **given: Any) -> tuple:
        given = {"variant": variant, "variants": variants or {}, **given}
        return computed("vllm_judge", **prefixed("platform", platform), **prefixed("vllm_judge", given))

    return compute
