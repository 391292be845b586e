"""Turns a container that runs Triton, or MLServer, into the variables of its role; never asks a cluster."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import words
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.command import Command
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Adopted
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.triton_flags import REPOSITORIES, RESERVED

NUMBERS = ("http_port", "grpc_port", "metrics_port", "exit_timeout_seconds")
# Of these the text after the last = is a key.
RESTRICTED = ("http-restricted-api", "grpc-restricted-protocol")
REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")


def fill(found: Adopted, command: Command) -> None:
    """Add what Triton has of its own; ``found`` is completed in place."""
    settings, extra, models = found.settings, [], []
    for name, value, written in words.triton(command.words):
        if name in REPOSITORIES and value and "model_repository" not in settings:
            settings["model_repository"] = value
        elif name == "load-model" and value:
            models.append(value)
        elif name in RESERVED and value:
            setting = RESERVED[name]
            settings[setting] = int(value) if setting in NUMBERS and value.isdigit() else value
        elif name:
            extra.append(_option(found, name, value))
        else:
            found.lost.append(f"args: {' '.join(written)}: belongs to no option")
    if "$(" in settings.get("model_repository", ""):
        found.lost.append(
            f"args: --model-repository {settings.pop('model_repository')}: only the cluster knows this variable"
        )
        settings["model_repository"] = "/CHANGE_ME"
    if "model_repository" not in settings:
        settings["model_repository"] = "/CHANGE_ME"
        found.lost.append("args: --model-repository: the command line names none")
    settings.setdefault("model_control_mode", "none")
    settings["models"], settings["extra_args"] = models, extra
    env = settings.get("env") or {}
    if region := next((env.pop(name) for name in REGION[:1] if env.get(name)), None):
        settings["aws_region"] = region
    if (settings.get("termination_grace_seconds") or 60) <= 60:
        settings["drain_seconds"] = 10


def _option(found: Adopted, name: str, value: str | None) -> str:
    """Write an option as one word; of one that has a key, without it."""
    if name in RESTRICTED and "=" in str(value):
        found.lost.append(f"args: --{name}: its key is a credential in the command line, and CHANGE_ME in its place")
        value = f"{value.rpartition('=')[0]}=CHANGE_ME"
    return f"--{name}={value}" if value is not None else f"--{name}"


def fill_mlserver(found: Adopted, command: Command) -> None:
    """Add what MLServer has of its own, as far as its environment says which model it has; ``found`` is completed in place."""
    settings, env = found.settings, found.settings.get("env") or {}
    for name, setting in (("HTTP", "http_port"), ("GRPC", "grpc_port"), ("METRICS", "metrics_port")):
        if str(env.get(f"MLSERVER_{name}_PORT", "")).isdigit():
            settings[setting] = int(env.pop(f"MLSERVER_{name}_PORT"))
    workers = str(env.pop("MLSERVER_PARALLEL_WORKERS", ""))
    settings["parallel_workers"] = int(workers) if workers.isdigit() else 1
    uri, name = env.pop("MLSERVER_MODEL_URI", ""), env.pop("MLSERVER_MODEL_NAME", "")
    runtime = env.pop("MLSERVER_MODEL_IMPLEMENTATION", "")
    if uri.startswith("/") and name and runtime:
        settings["models"] = {name: {"uri": uri, "implementation": runtime}}
        return
    folder = command.words[0] if command.words else "."
    settings["models"] = {"CHANGE_ME": {"uri": "/CHANGE_ME", "implementation": "mlserver_sklearn.SKLearnModel"}}
    found.lost.append(
        f"models: which there are is said by the files model-settings.json in its folder {folder}, which only the pod has: name each "
        "in mlserver_profiles with its uri and implementation"
    )
