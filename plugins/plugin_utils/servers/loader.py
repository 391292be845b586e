"""The init container that loads models or adapters from MLflow's registry or a bucket; never decides what is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.names import URL
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import node, workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# A slot, and the alias that fills one. A folder's name has 255 bytes at most, and the loader adds to it while it works.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_HOST = re.compile(r"https?://([^/:]+)")
PROGRAM = "loader.py"


def inside(settings: Settings) -> tuple[str, ...]:
    """Give MLflow's host, which is within the cluster: not to be asked through a proxy."""
    match = _HOST.match(str(settings["mlflow_tracking_uri"] or ""))
    return (match[1],) if match else ()


def mlflow_ports(settings: Settings) -> list[int]:
    """Read the ports of MLflow that the init container must reach."""
    return workload.listed(settings, "network_policy_mlflow_ports", (int,), "ports")


def patience(settings: Settings, kind: str) -> dict[str, Any]:
    """Give what the program reads of patience and space, whatever it loads: its variables, ``ADAPTERS_...`` or ``MODELS_...``.

    Args:
        settings: ``KINDs_seconds``, ``KINDs_retries``, ``KINDs_size``.
        kind: ``adapter`` or ``model``.
    """
    return {
        f"{kind.upper()}S_SECONDS": workload.whole(settings, f"{kind}s_seconds", least=1),
        f"{kind.upper()}S_RETRIES": workload.whole(settings, f"{kind}s_retries"),
        f"{kind.upper()}S_SIZE": int(workload.amount(settings, f"{kind}s_size") or 0),
    }


def container(
    settings: Settings,
    platform: Mapping,
    *,
    volume: str,
    path: str,
    environment: Mapping,
    scripts: str,
    command: Iterable[str] = (),
    args: Iterable[str] = (),
) -> dict:
    """Compose the init container, as ``init-containers.yaml.j2`` places it.

    Args:
        settings: ``init_*`` and ``mlflow_tracking_uri``.
        platform: the platform's variables without their prefix.
        volume: the volume that it fills; the container is called ``load-VOLUME``.
        path: where that is mounted.
        environment: what it is to load.
        scripts: the folder of the volume ``startup``, which has the program; ``""`` where the image's own command loads.
        command: that command, where it is not the image's default.
        args: its arguments.
    """
    workload.matching(
        settings, URL, "must be a URL, http:// or https://, without user and password", "mlflow_tracking_uri"
    )
    mounts = [{"name": volume, "mountPath": path}, {"name": "tmp", "mountPath": "/tmp"}]
    if platform["ca_bundle_configmap"]:
        mounts.append({"name": "ca-bundle", "mountPath": workload.CA_FOLDER, "readOnly": True})
    if scripts:
        command = ["python3", f"{scripts}/{PROGRAM}"]
        mounts.append({"name": "startup", "mountPath": scripts, "readOnly": True})
    base = {
        "AWS_REGION": platform["aws_region"],
        "HOME": "/tmp",
        "MLFLOW_TRACKING_URI": settings["mlflow_tracking_uri"],
        **environment,
    }
    pool = node.hardware(settings, platform)
    return {
        "name": f"load-{volume}",
        "image": workload.image(settings, platform, "init_image", "init_image_tag"),
        "pull_policy": settings["init_image_pull_policy"],
        "command": list(command),
        "args": list(args),
        "resources": node.resources(settings, platform, pool, key="init_resources"),
        "environment": workload.environment(settings, platform, base, inside(settings), "init_"),
        "volume_mounts": mounts,
    }
