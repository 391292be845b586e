"""Action ``modelyard.core.facts``: see plugins/modules/facts.py for its arguments."""

from __future__ import annotations

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import hub, model

DEFAULT = "vllm_"


class ActionModule(Action):
    """Fetch what decides about the size of models, and show the variables to paste."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        place = hub.Hub(options["endpoint"] or hub.HOST, options["proxy"], options["ca_path"])
        found, failed = {}, []
        for asked in _asked(options):
            name = asked["model"]
            try:
                config, size = place.facts(name, asked["revision"])
            except hub.Unavailable as error:
                failed.append(f"{name}: {error}")
                continue
            variables = {"model_config": model.kept(config), "model_weight_bytes": size}
            found[name] = variables
            said = {"model": name, **({"model_revision": asked["revision"]} if asked["revision"] else {}), **variables}
            for line in (_note(name, config, size), *_yaml(asked["prefix"], said)):
                self.tell(line)
        if failed:
            raise Failure("\n".join(failed))
        if not found:
            self.tell("no vLLM server of this host has a model of Hugging Face's; name some with facts_models")
        models = [{"model": name, "weight_bytes": one["model_weight_bytes"]} for name, one in found.items()]
        self.hand_on(facts={"models": models})
        return {"changed": False, "models": found}


def _asked(options: dict) -> list[dict]:
    """Give each model once: those named, or else those of the host's servers."""
    if options["models"]:
        return [{"model": name, "revision": "", "prefix": DEFAULT} for name in dict.fromkeys(options["models"])]
    parts = (options["rendered"] or {}).get("parts") or []
    asked = [part["hugging_face"] for part in parts if part["enabled"] and part.get("hugging_face")]
    return [one for place, one in enumerate(asked) if one not in asked[:place]]


def _note(name: str, config: dict, size: int) -> str:
    """Say how large the weights are, and by what."""
    try:
        computed = f"{model.read(config).weight_bytes / GIB:.2f} GiB by its configuration"
    except model.Unknown as error:
        computed = f"not computed ({error})"
    files = f"{size / GIB:.2f} GiB in its files" if size else "no safetensors"
    return f"# {name}: {files}; {computed}"


def _yaml(prefix: str, variables: dict) -> list[str]:
    """Write variables as an inventory has them: those of a profile below it."""
    *outer, last = prefix.split(".")
    nested: dict = {f"{last}{key}": value for key, value in variables.items()}
    for key in reversed(outer):
        nested = {key: nested}
    text = yaml.safe_dump(nested, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return text.rstrip("\n").split("\n")
