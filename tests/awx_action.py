"""Runs a module of awx.awx in Ansible's worker, as an action: ten times as fast as an interpreter for each call.

The tests put it beside the collection's modules, under the name of each (awx_modules.quick).
"""

import contextlib
import importlib
import io
import json
import os
from unittest.mock import patch

from ansible.module_utils import basic
from ansible.plugins.action import ActionBase


def called(main, arguments: dict) -> dict:
    """Call a module's main in this process, with these arguments; what it prints is the result."""
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    output = io.StringIO()
    with (
        # No certificates: to load them at each request takes longer than the request.
        patch.dict(os.environ, SSL_CERT_FILE=os.devnull),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main()
    return json.loads(output.getvalue())


class ActionModule(ActionBase):
    """Run the module that the task names."""

    def run(self, tmp=None, task_vars=None):
        """Call the module with the task's arguments."""
        super().run(tmp, task_vars)
        name = self._task.resolved_action.rpartition(".")[2]
        module = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{name}")
        arguments = {
            **self._task.args,
            "_ansible_check_mode": self._task.check_mode,
            "_ansible_no_log": self._task.no_log,
        }
        return called(module.main, arguments)
