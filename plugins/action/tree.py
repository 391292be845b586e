"""Action ``modelyard.core.tree``: see plugins/modules/tree.py for its arguments."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.files import layout, tree
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused


class ActionModule(Action):
    """Make a folder of files what the objects of a run are."""

    untouched = "Nothing was written."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        disabled = rendered["settings"]["tree"]["include_disabled"]
        misfits = [line for part in rendered["parts"] if part["enabled"] or disabled for line in part["misfits"]]
        wrong = misfits + layout.problems(rendered, options["paths"])
        if wrong:
            raise Refused(wrong)
        root = Path(rendered["settings"]["tree"]["repository"], layout.parent(rendered)).resolve()
        cluster = rendered["cluster"]
        try:
            wanted = tree.compose(layout.folders(rendered), cluster["name"], _source(cluster["host"], task_vars))
            write, remove = tree.plan(root, layout.tops(rendered), wanted, cluster["name"])
        except OSError as error:
            raise Refused([f"{error.filename}: {error.strerror}"]) from None
        try:
            if not self._task.check_mode:
                tree.carry_out(root, write, remove)
        except OSError as error:
            raise Failure(f"{error.filename}: {error.strerror}. Run it again when that is put right") from None
        old_and_new = {**write, **{path: (text, "") for path, text in remove.items()}}
        self.tell(f"{os.path.relpath(root)}: {len(wanted)} files, {len(write)} written, {len(remove)} removed")
        handed = {"check": self._task.check_mode, "files": len(wanted), "folder": os.path.relpath(root)}
        lists = {"written": list(write), "removed": list(remove)}
        self.hand_on(tree={**handed, "changed": len(write) + len(remove), **lists})
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


def _source(host: str, task_vars: dict) -> str:
    """Name the host and its inventory; one outside the project by its folder alone, since no machine's path belongs in a file."""
    project = os.path.dirname(task_vars["playbook_dir"])  # noqa: PTH120 (as Ansible gives it)
    inventory = os.path.relpath(task_vars.get("inventory_dir") or project, project)
    return f"host {host} of {os.path.basename(inventory) if inventory.startswith('..') else inventory}"  # noqa: PTH119
