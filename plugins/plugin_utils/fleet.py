"""How a run goes over several clusters: in which order, in which waves, and when it stops between two; never asks a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.utils.helpers import pct_to_int
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused, nearest, problem

GROUP = "clusters"
SERIAL, CANARY, PERCENTAGE = VARIABLES = ("fleet_serial", "fleet_canary", "fleet_max_fail_percentage")
SIZES = "must be numbers of clusters (1 or more) or shares (1% to 100%), as [1, 25%, 100%]"
# Of what is asked before it is known which hosts there are.
ONLY_EXTRA = (
    "{name} has no effect in the inventory, since the waves are made before a host's variables are known: "
    "give it as an extra variable (-e, or a file of its own with -e @FILE)"
)


class Fleet:
    """The clusters of a run, as Ansible's variables tell of them."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        """Read the variables.

        Args:
            variables: of a play, or of a task of it; templated.

        Raises:
            Refused: one of fleet_* is wrong.
        """
        wrong = [
            problem(name, variables[name], nearest(name, VARIABLES))
            for name in variables
            if name.startswith("fleet_") and name not in VARIABLES
        ]
        clusters = (variables.get("groups") or {}).get(GROUP) or []
        # With --limit, fewer than the group has; before the play's hosts are known, further ones.
        run = variables.get("ansible_play_hosts_all") or []
        self.canaries = _listed(variables.get(CANARY))
        wrong += [
            problem(CANARY, name, f"no host of the group {GROUP} has this name")
            for name in self.canaries
            if name not in clusters
        ]
        sizes = _listed(variables.get(SERIAL))
        wrong += [problem(SERIAL, size, SIZES) for size in sizes if not _is_size(size)]
        self.percentage, text = 0.0, variables.get(PERCENTAGE, 0)
        try:
            self.percentage = float(text if text not in (None, "") else 0)
        except (TypeError, ValueError):
            self.percentage = -1
        if isinstance(text, bool) or not 0 <= self.percentage <= 100:
            wrong.append(problem(PERCENTAGE, text, "must be a number from 0 to 100"))
        if wrong:
            raise Refused(wrong)
        first = [name for name in self.canaries if name in run]
        self.hosts = [*first, *(name for name in run if name in clusters and name not in first)]
        # Without sizes all others come at once.
        self.sizes = [*([len(first)] if first else []), *(sizes or ([len(self.hosts)] if first else []))]

    @property
    def pattern(self) -> list[str]:
        """What a play's ``hosts`` is: the canaries first."""
        return [*self.canaries, GROUP]

    @property
    def strategy(self) -> str:
        """What a play's ``strategy`` is: of several clusters none waits for another.

        With one there is no difference but in the headings, which Ansible shows late where hosts go their own ways.
        """
        return f"ansible.builtin.{'host_pinned' if len(self.hosts) > 1 else 'linear'}"

    def stopped(self, host: str, batch: Sequence[str], alive: Sequence[str], percentage: float) -> bool:
        """Tell whether too many clusters of the wave before have failed.

        Args:
            host: of the wave that is about to begin.
            batch: that wave, as Ansible has it.
            alive: all hosts of the play that have not failed.
            percentage: what the play itself knows of, without the variables of a host.

        Raises:
            Refused: the variables of this host ask for other waves than there are.
        """
        waves = cut(self.hosts, self.sizes)
        number = next(number for number, wave in enumerate(waves) if host in wave)
        if not set(batch) <= set(waves[number]) or (number + 1 < len(waves) and set(waves[number + 1]) & set(batch)):
            raise Refused([ONLY_EXTRA.format(name=f"{SERIAL} or {CANARY}")])
        if len(self.hosts) > 1 and self.percentage != percentage:
            raise Refused([ONLY_EXTRA.format(name=PERCENTAGE)])
        if not number:
            return False
        before = waves[number - 1]
        return 100 * len(set(before) - set(alive)) > self.percentage * len(before)


def cut(hosts: Sequence[str], sizes: Sequence[int | str]) -> list[list[str]]:
    """Cut hosts into waves as Ansible does.

    Args:
        hosts: of a play.
        sizes: its ``serial``, of which the last is repeated; without any all hosts are one wave.
    """
    left, found = list(hosts), []
    while left:
        size = pct_to_int(sizes[min(len(found), len(sizes) - 1)], len(hosts)) if sizes else 0
        found.append(left[: size or None])
        del left[: size or None]
    return found


def _listed(value: Any) -> list:
    """Give a list, of a list, of one value, or of a text with commas, as a survey and ``-e`` give it."""
    if value in (None, ""):
        return []
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    found = [item.strip() if isinstance(item, str) else item for item in found]
    return [int(item) if isinstance(item, str) and item.isdigit() else item for item in found]


def _is_size(size: Any) -> bool:
    if isinstance(size, int) and not isinstance(size, bool):
        return size > 0
    return isinstance(size, str) and bool(re.fullmatch(r"([1-9][0-9]?|100)%", size))
