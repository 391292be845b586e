"""Turns what every model server's pod has into the variables of the role model_server; knows no kind of server and no cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import containers
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.normal import plain, told
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Adopted
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import defaults
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.workload import is_credential

# Volumes that the roles name themselves.
TAKEN = ("startup", "cache", "tmp", "shm", "adapters", "models", "ca-bundle")
SECURITY = {
    "pod_security_context": (
        "runAsNonRoot",
        "runAsUser",
        "runAsGroup",
        "fsGroup",
        "fsGroupChangePolicy",
        "seccompProfile",
    ),
    "security_context": ("allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem"),
}
TIMES = {
    "liveness_probe": ("periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"),
    "readiness_probe": ("periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"),
}
PROBE_DEFAULTS = {"periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}
NATIVE = ("cpu", "memory", "ephemeral-storage")
# What Kubernetes gives every container of shared memory, and a limit of memory that has room for more.
SHARED, ROOMY = "64Mi", "2Gi"
# Where the pod says nothing of it: a start may take this long.
START_SECONDS = 1800


def read(deployment: Mapping, main: Mapping, exports: Mapping, brought: Mapping) -> Adopted:
    """Read a Deployment.

    Args:
        deployment: the live one.
        main: the server's container in it.
        exports: variables that a shell sets for the server.
        brought: the role's own values of its variables, for those that must be taken back.

    Returns:
        what every server has; the kind's module adds its own.
    """
    found = Adopted()
    spec = deployment["spec"]
    pod, template = spec["template"]["spec"], spec["template"]
    settings = found.settings
    settings["name"], settings["container_name"] = deployment["metadata"]["name"], main["name"]
    settings["image"] = containers.image(main["image"])
    settings["image_pull_policy"] = main.get("imagePullPolicy", "IfNotPresent")
    settings["replicas"] = spec.get("replicas", 1)
    _rollout(found, spec, pod)
    settings["resources"] = _resources(found, main, brought)
    for key, name in (
        ("node_selector", "nodeSelector"),
        ("tolerations", "tolerations"),
        ("affinity", "affinity"),
        ("runtime_class_name", "runtimeClassName"),
        ("priority_class_name", "priorityClassName"),
    ):
        if pod.get(name):
            settings[key] = plain(pod[name])
    settings["hardware_profile"] = ""
    settings["topology_spread_constraints"] = plain(pod.get("topologySpreadConstraints") or [])
    _security(found, pod, main)
    _probes(found, main)
    labels = told({**(template["metadata"].get("labels") or {})})
    settings["pod_labels"] = {key: text for key, text in labels.items() if key != "app"}
    if notes := told(template["metadata"].get("annotations") or {}):
        settings["pod_annotations"] = notes
    settings["do_not_disrupt"] = "karpenter.sh/do-not-disrupt" in (template["metadata"].get("annotations") or {})
    settings["labels"] = {
        key: text for key, text in told(deployment["metadata"].get("labels") or {}).items() if key != "app"
    }
    _environment(found, main, exports)
    _volumes(found, pod, main)
    containers.fill(found, pod, main)
    if names := containers.named(pod):
        found.notes.append(f"it names {', '.join(names)}: they stay as they are, and no run makes them")
    if pod.get("imagePullSecrets"):
        found.platform["platform_image_pull_secrets"] = [item["name"] for item in pod["imagePullSecrets"]]
    return found


def _rollout(found: Adopted, spec: Mapping, pod: Mapping) -> None:
    settings = found.settings
    # Kubernetes' own is left to the role, which knows whether a surge finds a GPU.
    strategy = spec.get("strategy") or {}
    settings["strategy"] = {} if defaults.filled(("spec", "strategy"), strategy) else strategy
    if spec.get("minReadySeconds"):
        settings["min_ready_seconds"] = spec["minReadySeconds"]
    if spec.get("revisionHistoryLimit", 10) != 10:
        settings["revision_history_limit"] = spec["revisionHistoryLimit"]
    grace = pod.get("terminationGracePeriodSeconds", 30)
    if grace > 30:
        settings["termination_grace_seconds"] = grace


def _resources(found: Adopted, main: Mapping, brought: Mapping) -> dict:
    """Give requests and limits; what the role brings and the pod has not is taken back by null.

    Requests of CPU and memory, and a limit of memory, the roles want in any case: what is missing is set, and taken out again by a patch.
    """
    live = main.get("resources") or {}
    parts = {part: dict(live.get(part) or {}) for part in ("requests", "limits")}
    requests, limits = parts["requests"], parts["limits"]
    for name in [name for name in requests if name not in NATIVE]:
        # Of a device, request and limit are one.
        limits.setdefault(name, requests[name])
    asked = []
    if "memory" not in limits:
        limits["memory"] = requests.get("memory", "64Gi")
        asked.append("limits.memory")
    for name, value in (("cpu", limits.get("cpu", "1")), ("memory", limits["memory"])):
        if name not in requests:
            requests[name] = value
            asked.append(f"requests.{name}")
    if asked:
        found.notes.append(
            f"resources: it has no {', '.join(asked)}, which the role wants: set what it needs, and drop that part of patch"
        )
    # The role would add up the sizes of the volumes on the node's disk.
    requests.setdefault("ephemeral-storage", "1Gi")
    own = brought.get("resources") or {}
    for part, values in parts.items():
        values |= {name: None for name in own.get(part) or {} if name not in values}
    return parts


def _security(found: Adopted, pod: Mapping, main: Mapping) -> None:
    """Give the pod's own security contexts; what the role would add is taken back by null."""
    for key, given in (
        ("pod_security_context", pod.get("securityContext")),
        ("security_context", main.get("securityContext")),
    ):
        live = dict(given or {})
        found.settings[key] = {**live, **{name: None for name in SECURITY[key] if name not in live}}
    mine = {**(pod.get("securityContext") or {}), **(main.get("securityContext") or {})}
    if not mine.get("runAsNonRoot") and not mine.get("runAsUser"):
        found.notes.append(
            "it runs as the image's own user, usually root: without pod_security_context and security_context the role runs it as a "
            "user without rights, who must be able to read its volumes"
        )


def _probes(found: Adopted, main: Mapping) -> None:
    settings = found.settings
    for key, names in TIMES.items():
        probe = main.get("livenessProbe" if key == "liveness_probe" else "readinessProbe")
        if probe:
            given = {**PROBE_DEFAULTS, **{name: probe[name] for name in names if probe.get(name)}}
            settings[key] = given
    start, alive = main.get("startupProbe"), main.get("livenessProbe")
    if start:
        period, delay = start.get("periodSeconds", 10), start.get("initialDelaySeconds", 0)
        settings["startup_period_seconds"], settings["startup_delay_seconds"] = period, delay
        settings["startup_seconds"] = delay + period * start.get("failureThreshold", 3)
        return
    seconds = START_SECONDS
    if alive:
        allowed = alive.get("initialDelaySeconds", 0) + alive.get("periodSeconds", 10) * alive.get(
            "failureThreshold", 3
        )
        seconds = max(600, math.ceil(allowed / 10) * 10)
    settings["startup_seconds"] = seconds
    found.notes.append(f"it has no startup probe: the role makes one, which allows {seconds} s (startup_seconds)")


def _environment(found: Adopted, main: Mapping, exports: Mapping) -> None:
    """Split the environment: texts into env, all else into extra_env; what is a credential is named, and not told."""
    env: dict[str, Any] = {}
    extra: list[dict] = []
    for item in plain(main.get("env") or []):
        name, value = item["name"], item.get("value")
        if is_credential(name, value):
            found.lost.append(
                f"env.{name}: its value is a credential, and stands in the Deployment: put it into a Secret, and name that in "
                "extra_env (valueFrom.secretKeyRef)"
            )
        elif "valueFrom" in item:
            extra.append(item)
        elif value and "$(" in value:
            # It names others, which must stand before it.
            extra.append({"name": name, "value": value})
        else:
            env[name] = value or ""
    for name, value in exports.items():
        if is_credential(name, value):
            found.lost.append(f"the shell sets {name}, a credential: put it into a Secret")
        else:
            env[name] = value
    if env:
        found.settings["env"] = env
    if extra:
        found.settings["extra_env"] = extra
    if main.get("envFrom"):
        found.settings["extra_env_from"] = plain(main["envFrom"])


def _volumes(found: Adopted, pod: Mapping, main: Mapping) -> None:
    """Find /dev/shm and /tmp among the volumes; all others are extra ones."""
    settings = found.settings
    volumes = {volume["name"]: plain(volume) for volume in pod.get("volumes") or []}
    mounts = [plain(mount) for mount in main.get("volumeMounts") or []]
    for path, key, name in (("/dev/shm", "shm_size", "shm"), ("/tmp", "tmp_size", "tmp")):
        mount = next((one for one in mounts if one["mountPath"].rstrip("/") == path), None)
        volume = volumes.get(mount["name"]) if mount else None
        if not mount or not volume:
            continue
        alone = [one for one in mounts if one["name"] == mount["name"]] == [mount]
        if "emptyDir" not in volume or "subPath" in mount or not alone:
            kind = next(key for key in volume if key != "name")
            found.lost.append(
                f"volumeMounts: {path} of volume {volume['name']} ({kind}): the role has a volume of its own there ({key})"
            )
            mounts.remove(mount)
            continue
        if size := volume["emptyDir"].get("sizeLimit"):
            settings[key] = size
        elif key == "shm_size":
            found.notes.append("its /dev/shm has no limit: set shm_size to what it needs")
        found.renamed[mount["name"]] = name
        del volumes[mount["name"]]
        mounts.remove(mount)
    limit = settings["resources"]["limits"]["memory"]
    if "shm_size" not in settings and quantity.parse(limit) < quantity.parse(ROOMY):
        # The role's own would take too much of so little.
        settings["shm_size"] = SHARED
    for name in volumes:
        if name in TAKEN or name in found.renamed.values():
            found.renamed[name] = f"{name}-of-its-own"
    settings["extra_volumes"] = [{**volume, "name": found.renamed.get(name, name)} for name, volume in volumes.items()]
    settings["extra_volume_mounts"] = [
        {**mount, "name": found.renamed.get(mount["name"], mount["name"])} for mount in mounts
    ]
