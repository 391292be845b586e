"""Mends what ansible-runner before 2.4.3 gets wrong beside the present ansible-core; knows no cluster."""

from __future__ import annotations

import functools
import multiprocessing
from typing import Any

from ansible import constants
from ansible.utils.display import Display


def mend() -> None:
    """Let a job's output be read under the ansible-runner of an older AWX node; does nothing without a runner, or under 2.4.3.

    A runner puts its own callback in the place of the one that is configured, and wraps Ansible's display. Returns nothing, raises nothing.
    """
    # Its callback's module, where it is that module which shows things.
    runner = getattr(Display.display, "__globals__", {})
    if "event_context" not in runner:
        return
    _give_options(runner["CallbackModule"], runner["DefaultCallbackModule"])
    if "multiprocessing_context" not in runner:
        _spare_forks()


def _give_options(callback: type, default: type) -> None:
    """Give the callback the options of the one that it stands for: without them, before 2.4.3, each result is JSON on one line."""
    read = callback.get_option
    own, others = (
        constants.config.get_configuration_definitions("callback", one._load_name) for one in (callback, default)
    )
    if others.keys() <= own.keys():
        return
    constants.config.initialize_plugin_configuration_definitions("callback", callback._load_name, others | own)

    def get_option(self: Any, name: str, hostvars: Any = None) -> Any:
        if not self.has_option(name):
            self.set_options()
        return read(self, name, hostvars)

    callback.get_option = get_option


def _spare_forks() -> None:
    """Let a fork hand to its parent what it shows, as Ansible does it: before 2.4.2 an event's marks are written in the fork, too.

    Nobody reads them there, and Ansible warns of them at each task that shows something.
    """
    shown = Display.display

    @functools.wraps(shown)
    def display(*args: Any, **more: Any) -> None:
        forked = multiprocessing.parent_process() is not None
        return (shown.__wrapped__ if forked else shown)(*args, **more)

    Display.display = display
