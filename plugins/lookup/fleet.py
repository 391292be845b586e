"""Lookup ``modelyard.core.fleet``: what a play over several clusters needs for its keywords."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.modelyard.core.plugins.plugin_utils.fleet import VARIABLES, Fleet
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

DOCUMENTATION = """
name: fleet
short_description: The waves of a run over several clusters
description:
  - What the variables C(fleet_serial), C(fleet_canary) and C(fleet_max_fail_percentage) make of a play's keywords (docs/fleet.md).
options:
  _terms:
    description:
      - V(hosts), V(serial) or V(strategy), the keyword; V(stopped) tells, in a task, whether the wave before failed.
    required: true
"""
EXAMPLES = """
- name: Deploy
  hosts: "{{ query('modelyard.core.fleet', 'hosts') }}"
  serial: "{{ query('modelyard.core.fleet', 'serial') }}"
  strategy: "{{ lookup('modelyard.core.fleet', 'strategy') }}"
"""
RETURN = """
_list:
  description: hosts, sizes of the waves, or one value.
  type: list
"""


class LookupModule(LookupBase):
    """Reads the variables of the play or task that asks.

    Attributes:
        percentage: the share that the play asks for.
    """

    percentage = 0.0

    def run(self, terms: list, variables: Any = None, **_kwargs: Any) -> list:
        """See LookupBase."""
        (what,) = terms
        known = dict(variables or {})
        if what == "stopped":
            # Others of an inventory with this beginning are its own business.
            known = {key: value for key, value in known.items() if not key.startswith("fleet_") or key in VARIABLES}
        known |= {name: self._templar.template(known[name]) for name in VARIABLES if name in known}
        try:
            fleet = Fleet(known)
            if what == "hosts":
                return fleet.pattern
            if what == "serial":
                return fleet.sizes
            if what == "strategy":
                # A keyword is read without the variables of a host, before the tasks of its play, by the same process.
                LookupModule.percentage = fleet.percentage
                return [fleet.strategy]
            batch, alive = known["ansible_play_batch"], known["ansible_play_hosts"]
            return [fleet.stopped(known["inventory_hostname"], batch, alive, LookupModule.percentage)]
        except Refused as error:
            raise AnsibleLookupError(str(error)) from None
