"""What AWX needs to know of the clusters: their names, what a survey can offer, how long a rollout may take; never asks AWX or a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.rollout import budget_seconds

# What comes before and after a rollout: the start of a job, its plan, the writes, the table.
AROUND_SECONDS = 300
PREFIX = "modelyard_connection_"


@dataclass(frozen=True)
class Clusters:
    """The clusters of an inventory, as far as AWX has to do with them.

    Attributes:
        hosts: their hosts, in the order of the inventory.
        urls: host to the URL of its API server, ``''`` where the inventory does not say.
        servers: names of the model servers of any of them.
        variants: names of the judge's variants of any of them, and ``none``.
        rollout_seconds: how long the slowest run over one of them may take.
    """

    hosts: list[str]
    urls: dict[str, str]
    servers: list[str]
    variants: list[str]
    rollout_seconds: int

    def choices(self, word: str) -> list[str]:
        """What a survey offers by a word of ``roles/awx/job_templates.yml``: hosts, servers or variants."""
        return {"hosts": self.hosts, "servers": self.servers, "variants": self.variants}[word]


def facts(renderings: Mapping[str, Mapping[str, Any]], variants: Mapping[str, list[str]]) -> Clusters:
    """Collect what AWX needs to know.

    Args:
        renderings: host to its rendering, of what is off too.
        variants: host to the names of the judge's variants.
    """
    on = [part for found in renderings.values() for part in found["parts"] if part["enabled"] and part.get("service")]
    return Clusters(
        list(renderings),
        {host: found["cluster"]["api_server"] for host, found in renderings.items()},
        list(dict.fromkeys(part["name"] for part in on)),
        [*dict.fromkeys(name for names in variants.values() for name in names), "none"],
        max(map(rollout_seconds, renderings.values())),
    )


def rollout_seconds(rendered: Mapping[str, Any]) -> int:
    """How long a run over one cluster may take: the lock, a node, the slowest rollout, and going back where that is asked for.

    A run waits for all Deployments side by side, so the slowest counts (docs/operations.md, Deadlines). Those that are off count too:
    another variant of the judge may be switched to.
    """
    settings = rendered["settings"]["apply"]
    deployments = [item for part in rendered["parts"] for item in part["objects"] if item["kind"] == "Deployment"]
    slowest = max((budget_seconds(item, settings["margin"]) for item in deployments), default=0)
    rollouts = 2 if settings["rollback_on_failure"] else 1
    return settings["lock_wait"] + rollouts * (settings["capacity_timeout"] + slowest) + AROUND_SECONDS


def variable(host: str) -> str:
    """Name the variable in which a job finds the connection of a cluster; ``platform_connection`` of an inventory reads it."""
    return PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", host)
