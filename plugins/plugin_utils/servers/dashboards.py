"""The dashboards of the kinds that are on, as objects that Grafana's sidecar finds; never writes one: tools/dashboards.py does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import ROLES, Role, lineage
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import templates

PLATFORM = "platform"
# Group and kind of what there is with them.
KINDS = [("", "ConfigMap")]


def enabled(platform: Mapping) -> bool:
    """Tell whether they are wanted."""
    return is_true(platform["dashboards_enabled"])


def objects(platform: Mapping, on: Iterable[str], roles: Mapping[str, Role]) -> list[dict]:
    """Render the dashboards.

    Args:
        platform: the platform's variables without their prefix.
        on: the roles of the kinds that have a server.
        roles: all roles, by name.

    Returns:
        a ConfigMap for each kind that has a dashboard (the judge's is vLLM's), and one for all of them together.
    """
    found = []
    for role in dict.fromkeys(each for kind in on for each in lineage(kind, roles)):
        file = ROLES / role / "files" / "dashboard.json"
        if file.is_file():
            found.append({"name": role, "text": file.read_text(encoding="utf-8")})
    fleet = ROLES / PLATFORM / "files" / "dashboard.json"
    found.append({"name": "fleet", "text": fleet.read_text(encoding="utf-8")})
    values = {"labels": platform["dashboards_labels"], "annotations": platform["dashboards_annotations"]}
    return [
        item
        for one in found
        for item in templates.render((PLATFORM,), ["dashboard.yaml.j2"], dashboard={**values, **one})
    ]
