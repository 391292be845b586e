"""Action ``modelyard.core.tree``: see plugins/modules/tree.py for its arguments."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.files import tree

ARGUMENTS = {
    "root": {"type": "path", "required": True},
    "tops": {"type": "list", "elements": "str", "required": True},
    "folders": {"type": "list", "elements": "dict", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "source": {"type": "str", "required": True},
    "problems": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    """Make a folder of files what the objects of a run are."""

    supports_check_mode = True
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        # Rendered objects are Ansible's tagged values; the YAML writer wants plain ones.
        options = json.loads(json.dumps(options))
        root, cluster = Path(options["root"]), options["cluster_name"]
        try:
            if options["problems"]:
                raise tree.Refused(options["problems"])
            wanted = tree.compose(options["folders"], cluster, options["source"])
            write, remove = tree.plan(root, options["tops"], wanted, cluster)
        except tree.Refused as error:
            lines = "\n".join(f"- {text}" for text in error.problems)
            raise AnsibleActionFail(f"Nothing was written.\n{lines}") from None
        except OSError as error:
            raise AnsibleActionFail(f"Nothing was written. {error.filename}: {error.strerror}") from None
        try:
            if not self._task.check_mode:
                tree.carry_out(root, write, remove)
        except OSError as error:
            raise AnsibleActionFail(
                f"{error.filename}: {error.strerror}. Run it again when that is put right"
            ) from None
        old_and_new = {**write, **{path: (text, "") for path, text in remove.items()}}
        return {
            "changed": bool(old_and_new),
            "files": len(wanted),
            "written": list(write),
            "removed": list(remove),
            "diff": [
                {"before_header": path, "after_header": path, "before": before, "after": after}
                for path, (before, after) in old_and_new.items()
            ],
        }
