"""Lists the kinds of model servers, each a role and the module of its name beside this file; never says what one is."""

from __future__ import annotations

import importlib

from ansible_collections.modelyard.core.plugins.plugin_utils.servers.kinds import Kind

# In the order of a run. A new kind is one more name here.
ROLES = ("triton", "vllm", "vllm_judge", "mlserver")


def load_kinds() -> list[Kind]:
    """Load the description of every kind."""
    return [importlib.import_module(f"{__name__}.{role}").KIND for role in ROLES]
