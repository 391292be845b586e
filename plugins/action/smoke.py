"""Action ``modelyard.core.smoke``: see plugins/modules/smoke.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, questions
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import check_cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused


class ActionModule(Action):
    """Ask each model server what its users will ask."""

    share = 0.2

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, urls, keys = checked(options["rendered"]), options["urls"], options["keys"]
        if wrong := questions.unusable(rendered, urls, keys):
            raise Refused(wrong)
        cluster = Cluster(options["connection"])
        check_cluster(cluster, delivery.identity(rendered))
        answers = [
            answer
            for server in rendered["parts"]
            if server["enabled"] and server["questions"]
            for answer in questions.ask(cluster, server, rendered, urls.get(server["name"]), keys.get(server["name"]))
        ]
        failed = [answer for answer in answers if not answer["ok"]]
        for answer in answers:
            if answer["ok"]:
                self.tell(questions.line(answer))
        self.tell(questions.counted(answers))
        if failed:
            lines = "".join(f"\n{questions.line(answer)}" for answer in failed)
            raise Failure(f"{len(failed)} of {len(answers)} questions got no right answer:{lines}")
        self.hand_on(smoke=questions.handed(answers))
        return {"changed": False, "answers": answers}
