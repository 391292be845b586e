"""Load in the parent process what nearly every task would load again in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, lookup_loader, test_loader

if TYPE_CHECKING:
    from ansible.playbook import Playbook

DOCUMENTATION = """
name: preload
type: aggregate
short_description: Load filters, tests and lookups before tasks are forked
description:
  - Ansible runs each task in a fork of its process, and what only templates need is first imported there, for each task again.
  - Loaded before the first fork, it is inherited. Nothing is printed, and nothing else changes. What it saves stands in
    docs/architecture.md.
"""


class CallbackModule(CallbackBase):
    """Acts once, at a playbook's start."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "modelyard.core.preload"

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Load ansible-core's filters and tests, ours, and the lookups that the roles use; returns nothing, raises nothing.

        Args:
            playbook: what is about to run, not looked at.

        """
        # To find one plugin by its name, Ansible loads the files of all that stand beside it.
        filter_loader.get("ansible.builtin.combine")
        filter_loader.get("modelyard.core.own")
        test_loader.get("ansible.builtin.defined")
        for name in ("env", "template", "varnames", "vars"):
            lookup_loader.get(f"ansible.builtin.{name}")
