"""Triton: its command line, size and questions, computed from its settings; never asks a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.kinds import NAMES, Kind
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

_REPOSITORY = re.compile(r"(s3|gs|as)://\S+|/\S*")
_MODEL = re.compile(r"\*|[\w.-]+", re.ASCII)
# What Triton waits for running requests when it is told to stop, unless it is told otherwise.
EXIT_TIMEOUT_SECONDS = 30


def compute(settings: Settings, platform: Mapping) -> dict:
    """Compute one Triton server.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.

    Returns:
        what the templates place, and what else the project reads of a server.
    """
    pool = workload.hardware(settings, platform)
    server = {**workload.common(settings, platform), **workload.object_names(settings, *NAMES.values())}
    workload.amount(settings, "tmp_size")
    resources = workload.resources(settings, pool, [settings["tmp_size"]], ["shm_size"])
    ports = {
        name: workload.whole(settings, f"{name}_port", least=1, most=65535) for name in ("http", "grpc", "metrics")
    }
    if len(set(ports.values())) < len(ports):
        settings.wrong(ports["metrics"], f"the ports must differ from each other: {ports}", "metrics_port")
    count = workload.replicas(settings)
    start = workload.startup(settings, _size(settings), platform)
    volumes, mounts = workload.volumes(
        settings,
        platform,
        [
            (workload.empty_dir("tmp", settings["tmp_size"]), "/tmp"),
            (workload.empty_dir("shm", settings["shm_size"], "Memory"), "/dev/shm"),
        ],
    )
    base = {"AWS_REGION": settings["aws_region"], "USER": "triton", "HOME": "/tmp"}
    models = [str(model) for model in settings["models"]]
    server.update(
        {f"{name}_port": port for name, port in ports.items()},
        reads=[str(settings["model_repository"])],
        deployment_annotations=workload.deployment_annotations(settings, ",".join(models)),
        questions=[
            {"path": "/v2/health/ready"},
            *({"path": f"/v2/models/{model}", "expect": model} for model in models if model != "*"),
        ],
        image=workload.image(settings, platform),
        replicas=count,
        resources=resources,
        node_selector=workload.node_selector(settings, pool),
        tolerations=workload.tolerations(settings, pool),
        strategy=workload.strategy(settings, resources, pool, exclusive_claim=False),
        topology_spread_constraints=workload.topology_spread(settings, server["name"], count),
        startup_probe=start["probe"],
        progress_deadline_seconds=workload.progress_deadline(settings, platform, start["seconds"]),
        arguments=_arguments(settings),
        environment=workload.environment(settings, platform, base),
        volumes=volumes,
        volume_mounts=mounts,
        network_policy=workload.network_policy(settings, platform, list(ports.values()), []),
    )
    _check_grace(settings, server)
    server["templates"] = workload.templates(server, settings)
    return server


def _size(settings: Settings) -> float | None:
    value = settings["models_gib"]
    try:
        return float(value) * GIB
    except (TypeError, ValueError):
        settings.wrong(value, "must be a number of GiB", "models_gib")
        return None


def _arguments(settings: Settings) -> list[str]:
    repository = workload.matching(
        settings, _REPOSITORY, "must be a path or a bucket's URL such as s3://models", "model_repository"
    )
    mode = settings["model_control_mode"]
    if mode not in ("explicit", "poll", "none"):
        settings.wrong(mode, "must be explicit, poll or none", "model_control_mode")
    arguments = ["tritonserver", f"--model-repository={repository}", f"--model-control-mode={mode}"]
    models = workload.listed(settings, "models", (str,), "model names")
    for index, model in enumerate(models):
        if not _MODEL.fullmatch(model):
            settings.wrong(model, "must be a model's name: letters, digits, -, _ and .", "models", index)
    if "*" in models and len(models) > 1:
        settings.wrong(models, "* must stand alone", "models")
    if len(set(models)) < len(models):
        settings.wrong(models, "names a model twice", "models")
    if mode == "explicit":
        arguments += [f"--load-model={model}" for model in models]
    # Only what differs from Triton's own default is written.
    for name, default in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        if str(settings[f"{name}_port"]) != str(default):
            arguments.append(f"--{name}-port={settings[f'{name}_port']}")
    exit_timeout = workload.whole(settings, "exit_timeout_seconds")
    if exit_timeout != EXIT_TIMEOUT_SECONDS:
        arguments.append(f"--exit-timeout-secs={exit_timeout}")
    return arguments + [str(item) for item in workload.listed(settings, "extra_args", (str, int, float), "arguments")]


def _check_grace(settings: Settings, server: Mapping) -> None:
    needed = server["drain_seconds"] + workload.whole(settings, "exit_timeout_seconds")
    if server["termination_grace_seconds"] <= needed:
        allowed = f"must be above drain_seconds and exit_timeout_seconds together, {needed}"
        settings.wrong(settings["termination_grace_seconds"], allowed, "termination_grace_seconds")


KIND = Kind(
    role="triton",
    compute=compute,
    place=lambda profile: (f"triton/overlays/{profile}", f"triton-inference-{profile}"),
    base="triton/base",
)
