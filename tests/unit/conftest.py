"""The roles' defaults as inputs for the filters, without Ansible."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"


def read(role: str, folder: str) -> dict[str, Any]:
    return yaml.safe_load((ROLES / role / folder / "main.yml").read_text())


def _fill(value: Any, known: dict[str, Any]) -> Any:
    """Do the little templating that the defaults need."""
    if isinstance(value, dict):
        return {key: _fill(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, known) for item in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{\{ (\w+) \}\}", value)
    if whole and whole[1] in known:
        return known[whole[1]]
    value = re.sub(
        r"\{\{ platform_aws_account_id \|[^}]*\}\}", "123456789012.dkr.ecr.eu-central-1.amazonaws.com", value
    )
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: str(known.get(match[1])), value)


def variables(role: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give a role's defaults without its prefix."""
    known = read("platform", "defaults")
    filled = {name.removeprefix(f"{role}_"): _fill(value, known) for name, value in read(role, "defaults").items()}
    return {name: value for name, value in filled.items() if name not in skip}


@pytest.fixture
def platform() -> dict[str, Any]:
    names = read("model_server", "vars")["__model_server_platform"]
    known = {name.removeprefix("platform_"): value for name, value in read("platform", "defaults").items()}
    return {
        **{name: known.get(name) for name in names},
        "aws_account_id": "123456789012",
        "hardware_profiles": read("platform", "vars")["__platform_hardware_profiles"],
    }


def _collect(compute: Callable[..., list[dict]], *args: Any) -> tuple[list[dict], list[str]]:
    from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems

    problems = Problems()
    return compute(*args, problems=problems), problems.lines


@pytest.fixture
def triton(platform: dict) -> Callable[..., tuple[list[dict], list[str]]]:
    """Compute Triton's servers: triton(enabled, profiles, variable=value...) gives servers and problems."""
    from ansible_collections.modelyard.core.plugins.plugin_utils.servers import triton as module

    def compute(enabled: tuple = ("cpu", "gpu"), profiles: dict | None = None, **given: Any) -> tuple:
        base = {**variables("triton", ("profiles", "enabled_profiles")), **given}
        builtin = read("triton", "vars")["__triton_profiles"]
        return _collect(module.servers, base, list(enabled), builtin, profiles or {}, platform)

    return compute


@pytest.fixture
def vllm(platform: dict) -> Callable[..., tuple[dict, list[str]]]:
    """Compute vLLM's server: vllm(variable=value...) gives the server and problems."""
    from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm as module

    def compute(**given: Any) -> tuple:
        models = read("vllm", "vars")["__vllm_models"]
        found, lines = _collect(module.server, {**variables("vllm"), **given}, True, models, platform)
        return found[0], lines

    return compute


@pytest.fixture
def judge(platform: dict) -> Callable[..., tuple[list[dict], list[str]]]:
    """Compute the judge's server: judge(variant, variants, variable=value...) gives servers and problems."""
    from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm as module

    def compute(variant: str = "judge", variants: dict | None = None, **given: Any) -> tuple:
        base = {**variables("vllm_judge", ("variant", "variants")), "eager_refused": True, **given}
        builtin = read("vllm_judge", "vars")["__vllm_judge_variants"]
        models = read("vllm", "vars")["__vllm_models"]
        own = variants or {}
        return _collect(module.judge, base, variant, builtin, own, variables("vllm"), models, platform)

    return compute
