"""Triton: its command line, size and questions, computed from its settings; never asks a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import alerts, disk, node, triton_flags, workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.kinds import Kind
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

_REPOSITORY = re.compile(r"(s3|gs|as)://\S+|/\S*")
_MODEL = re.compile(r"\*|[\w.-]+", re.ASCII)
_MOUNT = re.compile(r"TRITON_\w+_MOUNT_DIRECTORY")
# Its ports, and what they are unless it is told otherwise.
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
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
    models = workload.listed(settings, "models", (str,), "model names")
    # Where Triton loads all that its repository has, the role's own list says nothing of it, and the inventory's what to ask for.
    chosen = settings["model_control_mode"] == "explicit"
    known = models if chosen or settings.is_given("models") else []
    extra = [str(item) for item in workload.listed(settings, "extra_args", (str, int, float), "arguments")]
    more = triton_flags.check_extra(settings, extra, triton_flags.version_of(str(settings["image"])))
    repositories, size = [str(settings["model_repository"]), *more], workload.gibibytes(settings, "models_gib")
    server = workload.compute(
        settings,
        platform,
        ports=PORTS,
        model=",".join(known) or ("" if chosen else "*"),
        size_bytes=0 if all(map(disk.is_path, repositories)) else size,
        arguments=[*_arguments(settings), *extra],
        questions=[
            {"path": "/v2/health/ready"},
            *({"path": f"/v2/models/{model}", "expect": model} for model in known if model != "*"),
        ],
        own_environment={"AWS_REGION": settings["aws_region"], "USER": "triton", "HOME": "/tmp"},
        own_templates=alerts.templates(settings),
        waiting="nv_inference_pending_request_count",
    )
    server["alerts"] = alerts.compute(settings, platform, server, "Triton")
    server["reads"] = repositories
    server["network_policy"] = workload.network_policy(
        settings, platform, [server[f"{name}_port"] for name in PORTS], []
    )
    _check_grace(settings, server)
    _check_volumes(settings, platform, server, repositories, size or 0)
    return server


def _check_volumes(
    settings: Settings, platform: Mapping, server: Mapping, repositories: list[str], size: float
) -> None:
    """Check what Triton copies the models of a bucket into, and keeps as long as they are loaded, or where they lie.

    Source: triton-inference-server/core, ``filesystem/implementations``: ``/tmp``, whatever ``TMPDIR`` says, unless
    ``TRITON_AWS_MOUNT_DIRECTORY`` (``GCS``, ``AZURE``) names another folder.
    """
    paths = [repository for repository in repositories if disk.is_path(repository)]
    # Of which models the size is, where some are copied and some are not, is not known.
    copied = 0 if paths else size
    if paths and paths[0] == repositories[0]:
        disk.check_path(settings, paths[0], server["volume_mounts"], server["volumes"], size, "model_repository")
    if not any(_MOUNT.fullmatch(item["name"]) for item in server["environment"]):
        what = "what Triton copies of its repository (models_gib)"
        disk.check_room(settings, what, copied, settings["tmp_size"], "tmp_size")
    disk.check_node(settings, node.hardware(settings, platform), server["resources"], copied)


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
    for name, default in PORTS.items():
        if str(settings[f"{name}_port"]) != str(default):
            arguments.append(f"--{name}-port={settings[f'{name}_port']}")
    exit_timeout = workload.whole(settings, "exit_timeout_seconds")
    if exit_timeout != EXIT_TIMEOUT_SECONDS:
        arguments.append(f"--exit-timeout-secs={exit_timeout}")
    return arguments


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
