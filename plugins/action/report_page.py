"""Action ``modelyard.core.report_page``: see plugins/modules/report_page.py for its arguments."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.report import page


class ActionModule(Action):
    """Write one page of all reports."""

    share = 0.2

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        path = Path(options["path"])
        text = page.render(options["reports"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(name).chmod(0o644)
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise Failure(f"report_html is {path}: can't be written: {error.strerror}") from error
        self._display.display(f"  {path}: {len(text.encode()) / 1e6:.1f} MB")
        if job.folder() and path.absolute().is_relative_to(job.folder()):
            self._display.warning(
                f"{path} is thrown away with this job: set report_html to a path that is kept (docs/awx.md)"
            )
        for report in options["reports"]:
            self.hand_on(report["host"], report={"page": str(path)})
        return {"changed": False, "path": str(path)}
