"""Computes and checks what every model server has: placement, resources, security, deadlines, network; knows no kind."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import (
    ACCOUNT,
    compose_arn,
    role_annotations,
    role_name_error,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names, quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.formats import format_error
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import (
    CREDENTIAL,
    HIDDEN,
    nearest,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import (
    claims,
    disk,
    expansion,
    exposure,
    node,
    pool,
    scaling,
    schedule,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.kinds import NAMES
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.reading import (
    amount,
    annotations,
    dictionary,
    flag,
    labels,
    listed,
    matching,
    text,
    whole,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import SKIPPABLE, Settings

METADATA_ADDRESSES = ["169.254.169.254/32", "fd00:ec2::254/128"]
POD_IDENTITY_ADDRESSES = ["169.254.170.23/32", "fd00:ec2::23/128"]
CA_FOLDER = "/etc/modelyard/ca"
# A server that does not answer is down after these, unless its start may take longer.
DOWN_SECONDS = 300
# Every deadline that holds it still fits the int32 of a Deployment.
LONGEST_START_SECONDS = 10**9
# Names of variables whose value is a credential; a path to one ends otherwise (HF_TOKEN_PATH).
_FOLDER = re.compile(r"(/[\w.-]+)+", re.ASCII)
_DNS_RULE = "must be a DNS label: at most 63 lower-case letters, digits and -, with a letter or digit at both ends"


# --- Reading settings ----------------------------------------------------------------------------


def gibibytes(settings: Settings, key: str) -> float | None:
    """Read a number of GiB, and give it in bytes; note it, and give None, when it is none."""
    value = settings[key]
    try:
        return float(value) * quantity.GIB
    except (TypeError, ValueError):
        settings.wrong(value, "must be a number of GiB", key)
        return None


def folder(settings: Settings, key: str) -> str:
    """Read an absolute path of plain characters."""
    return matching(settings, _FOLDER, "must be an absolute path of letters, digits, ., _ and -", key)


def image(settings: Settings, platform: Mapping, key: str = "image", tag_key: str | None = None) -> str:
    """Read an image reference and point it at its mirror."""
    value = settings[key]
    if tag_key and isinstance(value, str) and settings[tag_key]:
        tag = str(settings[tag_key])
        reference = f"{value}@{tag}" if tag.startswith("sha256:") else f"{value}:{tag}"
    else:
        reference = value
    return mirrored(settings, platform, reference, key)


def mirrored(settings: Settings, platform: Mapping, reference: object, *keys: object) -> str:
    """Point an image reference at its mirror; note it when it is none, or names no version.

    Args:
        settings: where what is wrong is noted.
        platform: ``image_registry_mirrors``.
        reference: as the inventory has it.
        keys: of it.
    """
    match = names.IMAGE.fullmatch(reference) if isinstance(reference, str) else None
    if not match:
        settings.wrong(reference, "must be an image reference such as registry.example.com/team/server:1.2", *keys)
        return str(reference)
    if not (match["tag"] or match["digest"]):
        settings.wrong(reference, "must have a tag or a digest", *keys)
    return names.mirrored(reference, platform["image_registry_mirrors"])


def object_names(settings: Settings, *keys: str) -> dict[str, str]:
    """Read the names of a server's objects: its own, and those that are derived from it when they are null."""
    result = {"name": matching(settings, names.DNS_LABEL, _DNS_RULE, "name")}
    for key in keys:
        if settings[key] is None:
            result[key] = result["name"]
        elif key == "service_name":
            result[key] = matching(settings, names.SERVICE_NAME, f"{_DNS_RULE}, beginning with a letter", key)
        else:
            result[key] = matching(settings, names.DNS_LABEL, _DNS_RULE, key)
    matching(settings, names.DNS_LABEL, _DNS_RULE, "container_name")
    return result


# --- Rollout -------------------------------------------------------------------------------------


def replicas(settings: Settings) -> int | None:
    """Read the number of pods; None when an autoscaler owns it."""
    if flag(settings, "autoscaled") or scaling.is_autoscaled(settings) or settings["replicas"] is None:
        return None
    return whole(settings, "replicas")


def strategy(settings: Settings, room: bool, exclusive_claim: bool) -> dict:
    """Choose how pods are replaced.

    Where the old pods hold the last GPUs of their pool (no ``room``), or a claim that one node mounts, a surge would wait
    for ever. The choice is ``maxSurge: 0`` and not ``Recreate``: the API server refuses to turn a running RollingUpdate Deployment into
    Recreate by server-side apply, and with more replicas the others go on serving.
    """
    given = dictionary(settings, "strategy")
    if given:
        steps = given.get("rollingUpdate") or {}
        if given.get("type") == "Recreate" and steps:
            settings.wrong(dict(steps), "belongs to the type RollingUpdate", "strategy", "rollingUpdate")
        # What is left out is 25%.
        if all(str(steps.get(key, "25%")) in ("0", "0%") for key in ("maxSurge", "maxUnavailable")):
            settings.wrong(dict(steps), "one of the two must be above 0", "strategy", "rollingUpdate")
        return given
    surge = room and not exclusive_claim
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": int(surge), "maxUnavailable": int(not surge)}}


def _has_room(settings: Settings, platform: Mapping, profile: Mapping) -> bool:
    """Tell whether a pod more finds GPUs beside all servers of its pool, and note when the pool is too small for them as they are."""
    there = pool.demands_of(settings, platform, profile)
    if there[0].name == str(settings["name"]):
        pool.check(settings, profile, there)
    own = next(one for one in there if one.name == str(settings["name"]))
    return pool.has_room(profile, own, [one for one in there if one is not own])


def download_seconds(size_bytes: float, platform: Mapping) -> float:
    """Tell how long a download takes at the platform's speed."""
    return size_bytes / quantity.MIB / float(platform["download_mib_per_second"])


def startup(settings: Settings, size_bytes: float | None, platform: Mapping) -> dict:
    """Size the startup probe.

    Args:
        settings: ``startup_seconds`` (all that the start may take, or null to compute it), ``startup_delay_seconds``
            (of these, before the first probe), ``startup_period_seconds``, ``load_seconds`` (load, compile, capture).
        size_bytes: what is downloaded before the server answers; None when it is not known.
        platform: ``download_mib_per_second``.

    Returns:
        ``initialDelaySeconds``, ``periodSeconds``, ``failureThreshold`` of the probe, and ``seconds`` in all.
    """
    delay = whole(settings, "startup_delay_seconds")
    period = whole(settings, "startup_period_seconds", least=1)
    load = whole(settings, "load_seconds")
    if settings["startup_seconds"] is not None:
        allowance = whole(settings, "startup_seconds", least=1)
        if allowance <= delay:
            settings.wrong(allowance, f"must be more than the delay before the first probe, {delay}", "startup_seconds")
    elif size_bytes is None:
        settings.wrong(
            None, "the model is not known, so the seconds that its start may take must be given here", "startup_seconds"
        )
        allowance = period
    else:
        allowance = delay + download_seconds(size_bytes, platform) + load
        if allowance > LONGEST_START_SECONDS:
            settings.wrong(
                None, f"the download would take {allowance:.0f} s: say here what the start may take", "startup_seconds"
            )
            allowance = period
    threshold = max(1, math.ceil((allowance - delay) / period))
    probe = {"periodSeconds": period, "failureThreshold": threshold}
    if delay:
        probe["initialDelaySeconds"] = delay
    return {"probe": probe, "seconds": delay + threshold * period}


def progress_deadline(settings: Settings, platform: Mapping, startup_seconds: int, init_seconds: int = 0) -> int:
    """Sum up what one new pod may take: node, image, init containers, start, margin; in seconds.

    The margin holds the seconds that a pod must stay ready (``min_ready_seconds``).
    """
    deadline = (
        int(platform["node_provisioning_seconds"])
        + int(platform["image_pull_seconds"])
        + init_seconds
        + startup_seconds
        + int(platform["deadline_margin_seconds"])
    )
    if settings["progress_deadline_seconds"] is not None:
        deadline = whole(settings, "progress_deadline_seconds", least=1)
        if deadline <= startup_seconds:
            settings.wrong(
                deadline,
                f"must be more than the start alone may take, {startup_seconds} s",
                "progress_deadline_seconds",
            )
    ready = whole(settings, "min_ready_seconds")
    if ready >= deadline:
        # The API server refuses it, too.
        settings.wrong(
            ready, f"must be below the seconds in which a pod must be ready, {deadline}", "min_ready_seconds"
        )
    return deadline


def topology_spread(settings: Settings, name: str, count: int | None) -> list[dict]:
    """Spread pods over zones and nodes, where there is more than one; the user's own list replaces this."""
    if settings["topology_spread_constraints"] is not None:
        return listed(settings, "topology_spread_constraints")
    if count is not None and count < 2:
        return []
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": name}},
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


# --- Security ------------------------------------------------------------------------------------


def pod_security_context(settings: Settings) -> dict:
    """Run as one non-root user and group, which also owns the volumes."""
    context = {
        "runAsNonRoot": True,
        "runAsUser": whole(settings, "run_as_user", least=1),
        "runAsGroup": whole(settings, "run_as_group"),
        "fsGroup": whole(settings, "run_as_group"),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {k: v for k, v in {**context, **dictionary(settings, "pod_security_context")}.items() if v is not None}


def security_context(settings: Settings) -> dict:
    """Allow a container nothing that a server does not need."""
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": flag(settings, "read_only_root_filesystem"),
    }
    return {k: v for k, v in {**context, **dictionary(settings, "security_context")}.items() if v is not None}


def role_arn(settings: Settings, platform: Mapping) -> str:
    """Compose the ARN of the server's IAM role; an empty text for none."""
    role = settings["role_name"]
    if not role or not platform["irsa_enabled"]:
        return ""
    wrong = role_name_error(role)
    if wrong:
        settings.wrong(role, wrong, "role_name")
    account = str(platform["aws_account_id"])
    if not str(role).startswith("arn:") and not ACCOUNT.fullmatch(account):
        settings.problems.add("platform_aws_account_id", account, f"must be 12 digits, for the role {str(role)!r}")
    return compose_arn(role, account, platform["aws_partition"], platform["irsa_role_path"])


# --- Environment and volumes ---------------------------------------------------------------------


def environment(
    settings: Settings, platform: Mapping, base: Mapping, inside: tuple[str, ...] = (), prefix: str = ""
) -> list[dict]:
    """Compose a container's environment, each name once.

    Args:
        settings: ``env`` (name to value, null removes) and ``extra_env`` (Kubernetes' own list).
        platform: the proxy and the CA bundle.
        base: what the server itself needs: name to text, or to ``valueFrom``.
        inside: hosts within the cluster that must not go through a proxy.
        prefix: before the names of the two settings, ``init_`` for the init container.
    """
    env: dict[str, Any] = {**base, **_proxy(platform["proxy"] or {}, inside), **_ca(platform)}
    key, raw = f"{prefix}env", f"{prefix}extra_env"
    given = dictionary(settings, key)
    for name, value in given.items():
        if isinstance(value, (Mapping, list)):
            settings.wrong(value, f"must be text; {settings.path(raw)} takes Kubernetes' own form", key, name)
    env.update({name: value for name, value in given.items() if not isinstance(value, Mapping)})
    secret = f"must come from a Secret, in {settings.path(raw)} with valueFrom.secretKeyRef: a value would be in the rendered files"
    for name, value in given.items():
        if is_credential(name, value):
            settings.wrong(HIDDEN, secret, key, name)
    result = {
        name: {"name": str(name), **(value if isinstance(value, Mapping) else {"value": text(value)})}
        for name, value in env.items()
        if value is not None
    }
    result.update({item["name"]: item for item in variables(settings, listed(settings, raw), raw)})
    return list(result.values())


def variables(settings: Settings, given: object, *keys: object) -> list[dict]:
    """Read environment variables in Kubernetes' own form; those that are wrong, or a credential, are noted and left out.

    Args:
        settings: where what is wrong is noted.
        given: the list.
        keys: of it.
    """
    found = []
    for index, item in enumerate(given if isinstance(given, (list, tuple)) else [given]):
        wrong = _variable_error(item) if isinstance(item, Mapping) else "must be a dictionary with a name"
        if not wrong and is_credential(item["name"], item.get("value")):
            wrong = "must come from a Secret, with valueFrom.secretKeyRef: a value would be in the rendered files"
        if wrong:
            settings.wrong(HIDDEN, wrong, *keys, index)
            continue
        value = {} if item.get("value") is None else {"value": text(item["value"])}
        found.append({**{key: item[key] for key in item if key != "value"}, **value})
    return found


def _variable_error(item: Mapping) -> str | None:
    """Tell what is wrong with an environment variable in Kubernetes' own form, whose value may be a credential."""
    unknown = sorted(item.keys() - {"name", "value", "valueFrom"})
    if "name" not in item:
        return "must have a name"
    if unknown:
        return f"has {', '.join(unknown)}, and a variable has name and value, or name and valueFrom"
    if isinstance(item.get("value"), (Mapping, list)) or not isinstance(item.get("valueFrom") or {}, Mapping):
        return "must have a text as value, or a dictionary as valueFrom"
    if item.get("value") is not None and item.get("valueFrom"):
        return "must have either a value or a valueFrom"
    return format_error(item["name"], "environment")


def is_credential(name: object, value: object) -> bool:
    """Tell by its name (of a variable, of a key) whether a value is a credential, and not one of the switches that end alike."""
    switch = value is None or str(value).lower() in ("", "0", "1", "true", "false")
    return not switch and CREDENTIAL.fullmatch(str(name)) is not None


def _proxy(proxy: Mapping, inside: tuple[str, ...]) -> dict:
    env = {}
    if proxy.get("http_proxy") or proxy.get("https_proxy"):
        given = [host for host in str(proxy.get("no_proxy") or "").split(",") if host]
        ours = ["localhost", "127.0.0.1", "169.254.170.23", "[fd00:ec2::23]", ".svc", ".cluster.local", *inside]
        proxy = {**proxy, "no_proxy": ",".join(dict.fromkeys([*given, *ours]))}
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        if proxy.get(name):
            env[name.upper()] = env[name] = proxy[name]
    return env


def _ca(platform: Mapping) -> dict:
    if not platform["ca_bundle_configmap"]:
        return {}
    bundle = f"{CA_FOLDER}/ca-bundle.crt"
    return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"), bundle)


def volumes(settings: Settings, platform: Mapping, own: list[tuple[dict, str]]) -> tuple[list[dict], list[dict]]:
    """Compose the pod's volumes and the main container's mounts.

    Args:
        settings: ``extra_volumes`` and ``extra_volume_mounts``.
        platform: the CA bundle.
        own: the server's volumes, each with the folder it is mounted on.
    """
    pairs = list(own)
    if platform["ca_bundle_configmap"]:
        pairs.append(({"name": "ca-bundle", "configMap": {"name": platform["ca_bundle_configmap"]}}, CA_FOLDER))
    found = [volume for volume, _path in pairs]
    mounts = [
        {"name": volume["name"], "mountPath": path, **({"readOnly": True} if "configMap" in volume else {})}
        for volume, path in pairs
    ]
    known = {volume["name"] for volume in found}
    for index, volume in enumerate(listed(settings, "extra_volumes")):
        if format_error(volume.get("name"), "label"):
            settings.wrong(volume.get("name"), _DNS_RULE, "extra_volumes", index, "name")
            continue
        if len(volume) != 2:
            settings.wrong(dict(volume), "must have a name and one source", "extra_volumes", index)
        if volume["name"] in known:
            settings.wrong(
                volume.get("name"),
                f"must be a name of its own; taken: {', '.join(sorted(known))}",
                "extra_volumes",
                index,
                "name",
            )
            continue
        known.add(volume["name"])
        found.append(dict(volume))
    for index, mount in enumerate(listed(settings, "extra_volume_mounts")):
        name, path = mount.get("name"), mount.get("mountPath")
        if not isinstance(name, str) or name not in known:
            settings.wrong(name, nearest(name, known), "extra_volume_mounts", index, "name")
        if not isinstance(path, str) or not path.startswith("/") or ":" in path:
            settings.wrong(path, "must be an absolute path without :", "extra_volume_mounts", index, "mountPath")
        elif path in {other["mountPath"] for other in mounts}:
            settings.wrong(path, "has a mount already", "extra_volume_mounts", index, "mountPath")
        mounts.append({**mount, "mountPath": path})
    return found, mounts


def empty_dir(name: str, size: object, medium: str | None = None) -> dict:
    """Give a volume that lives as long as the pod."""
    return {"name": name, "emptyDir": {**({"medium": medium} if medium else {}), "sizeLimit": str(size)}}


def scratch(settings: Settings) -> list[tuple[dict, str]]:
    """Give every server's ``/tmp`` and ``/dev/shm``, for :func:`volumes`."""
    return [
        (empty_dir("tmp", settings["tmp_size"]), "/tmp"),
        (empty_dir("shm", settings["shm_size"], "Memory"), "/dev/shm"),
    ]


# --- Network -------------------------------------------------------------------------------------


def network_policy(settings: Settings, platform: Mapping, ports: list[int], mlflow_ports: list[int]) -> dict:
    """Say who may reach a server and, where egress is limited, what it may reach.

    A namespaceSelector matches pods only, never an address outside the cluster: outward HTTPS is an ipBlock,
    without the instance's metadata.

    Args:
        settings: ``network_policy_*``.
        platform: the proxy, and the namespace of MLflow.
        ports: the server's ports.
        mlflow_ports: the ports of MLflow, or none.
    """
    admitted = listed(settings, "network_policy_ingress_from")
    for index, item in enumerate(admitted):
        if item.get("namespace") == "":
            settings.wrong("", "must be a namespace's name, or *", "network_policy_ingress_from", index, "namespace")
    peers = [exposure.peer(item) for item in admitted]
    ingress = [{"from": peers, "ports": _ports("TCP", ports)}] if peers else []
    ingress += exposure.admitted(settings) + listed(settings, "network_policy_extra_ingress")
    policy = {"policyTypes": ["Ingress"], "ingress": ingress}
    if not flag(settings, "network_policy_egress_limited"):
        return policy
    egress = [{"ports": _ports("UDP", [53]) + _ports("TCP", [53])}]
    outward = _blocks(settings)
    # Without a peer a rule would allow everywhere.
    if outward:
        egress.append({"to": outward, "ports": _ports("TCP", [443])})
    if mlflow_ports:
        namespace = {"matchLabels": {"kubernetes.io/metadata.name": platform["ai_namespace"]}}
        egress.append({"to": [{"namespaceSelector": namespace}], "ports": _ports("TCP", mlflow_ports)})
    if flag(settings, "network_policy_pod_identity"):
        agents = [{"ipBlock": {"cidr": address}} for address in POD_IDENTITY_ADDRESSES]
        egress.append({"to": agents, "ports": _ports("TCP", [80])})
    proxies = proxy_ports(platform["proxy"] or {})
    if proxies and outward:
        egress.append({"to": outward, "ports": _ports("TCP", proxies)})
    elif proxies:
        settings.wrong([], "must hold the network of the proxy (platform_proxy)", "network_policy_https_cidrs")
    return {
        "policyTypes": ["Ingress", "Egress"],
        "ingress": policy["ingress"],
        "egress": egress + listed(settings, "network_policy_extra_egress"),
    }


def _ports(protocol: str, ports: list[int]) -> list[dict]:
    return [{"protocol": protocol, "port": port} for port in ports]


def _blocks(settings: Settings) -> list[dict]:
    """Read the networks that may be reached, and leave the instance's metadata out of each."""
    key = "network_policy_https_cidrs"
    blocks = []
    for index, cidr in enumerate(listed(settings, key, (str,), "networks")):
        try:
            network = ipaddress.ip_network(cidr)
        except ValueError:
            network = None
        # An IPv4 address written as IPv6 would hide which one it is.
        if network is None or (network.version == 6 and network.network_address.ipv4_mapped):
            settings.wrong(cidr, "must be a network such as 10.0.0.0/8 or 2001:db8::/32", key, index)
            continue
        hidden = [a for a in map(ipaddress.ip_network, METADATA_ADDRESSES) if a.version == network.version]
        inside = [str(address) for address in hidden if address.subnet_of(network)]
        if str(network) in inside:
            settings.wrong(cidr, "is the address of the instance's metadata, which pods must not reach", key, index)
        blocks.append({"ipBlock": {"cidr": str(network), **({"except": inside} if inside else {})}})
    return blocks


def proxy_ports(proxy: Mapping) -> list[int]:
    """List the ports of the proxies, where they are not HTTPS's own."""
    found = set()
    for name in ("http_proxy", "https_proxy"):
        if proxy.get(name):
            # One that is no URL is the platform's problem, and told there.
            with contextlib.suppress(ValueError):
                url = urlsplit(str(proxy[name]))
                found.add(url.port or (443 if url.scheme == "https" else 80))
    return sorted(found - {443})


# --- All of it -----------------------------------------------------------------------------------


def common(settings: Settings, platform: Mapping) -> dict:
    """Compute what needs nothing but the settings; the server's module adds the rest."""
    for check, reason in dictionary(settings, "skip_checks").items():
        if check not in SKIPPABLE:
            settings.wrong(reason, nearest(check, SKIPPABLE), "skip_checks", check)
        elif not isinstance(reason, str) or not reason.strip():
            settings.wrong(reason, "must be the reason, in words", "skip_checks", check)
    drain = whole(settings, "drain_seconds")
    grace = whole(settings, "termination_grace_seconds", least=1)
    if drain >= grace:
        settings.wrong(
            grace,
            f"must be above the seconds before the server is told to stop, {drain} ({settings.path('drain_seconds')})",
            "termination_grace_seconds",
        )
    pod_annotations = annotations(settings, "pod_annotations")
    if flag(settings, "do_not_disrupt"):
        pod_annotations = {"karpenter.sh/do-not-disrupt": "true", **pod_annotations}
    pod_labels = labels(settings, "pod_labels")
    if "app" in pod_labels:
        settings.wrong(pod_labels["app"], "is the selector and always the server's name", "pod_labels", "app")
    arn = role_arn(settings, platform)
    ours = {**labels(settings, "labels"), "app": str(settings["name"])}
    notes = annotations(settings, "annotations")
    interval = re.compile(r"([1-9]\d{0,5}(ms|[smhdwy]))+", re.ASCII)
    percent = re.compile(r"\d+%?", re.ASCII)
    if not percent.fullmatch(str(settings["pdb_max_unavailable"])):
        allowed = "must be a number of pods or a percentage"
        settings.wrong(settings["pdb_max_unavailable"], allowed, "pdb_max_unavailable")
    return {
        **settings.values,
        "object_labels": ours,
        "monitor_labels": {**platform["monitoring_labels"], **labels(settings, "monitoring_labels"), **ours},
        "annotations": notes,
        "pod_labels": {**pod_labels, "app": str(settings["name"])},
        "pod_annotations": pod_annotations,
        "pod_security_context": pod_security_context(settings),
        "security_context": security_context(settings),
        "role_arn": arn,
        "account_annotations": {
            **notes,
            **role_annotations(arn, platform["pod_identity"], platform["sts_regional_endpoints"]),
        },
        "image_pull_secrets": [{"name": name} for name in platform["image_pull_secrets"]],
        "drain_seconds": drain,
        "termination_grace_seconds": grace,
        "min_ready_seconds": whole(settings, "min_ready_seconds"),
        "revision_history_limit": whole(settings, "revision_history_limit"),
        "monitoring_interval": matching(settings, interval, "must be a time such as 30s", "monitoring_interval"),
        "liveness_probe": dictionary(settings, "liveness_probe"),
        "readiness_probe": dictionary(settings, "readiness_probe"),
        "patch": dictionary(settings, "patch"),
    }


def deployment_annotations(settings: Settings, model: str) -> dict[str, str]:
    """Say on the Deployment what it serves and on which node pool: the closing table of a run reads it there."""
    pool = str(settings["hardware_profile"] or "any node")
    return {**annotations(settings, "annotations"), "modelyard/profile": pool, "modelyard/model": model}


def templates(server: Mapping, settings: Settings, *own: str) -> list[str]:
    """List the templates of the objects that a server has; what is switched off is left out by name."""
    count = server["replicas"]
    optional = {
        "networkpolicy.yaml.j2": flag(settings, "network_policy_enabled"),
        "poddisruptionbudget.yaml.j2": count is None or count > 1,
        "servicemonitor.yaml.j2": flag(settings, "monitoring_enabled"),
        schedule.TEMPLATE: bool(server["schedule"]),
        **{name: bool(server[key]) for key, (name, _, _) in {**exposure.WAYS, **scaling.SCALERS}.items()},
    }
    wanted = [name for name, on in optional.items() if on]
    return ["serviceaccount.yaml.j2", *own, "service.yaml.j2", "deployment.yaml.j2", *wanted]


def compute(
    settings: Settings,
    platform: Mapping,
    *,
    ports: Iterable[str],
    model: str,
    size_bytes: float | None,
    arguments: list[str],
    questions: list[dict],
    own_environment: Mapping | None = None,
    own_volumes: list[tuple[dict, str]] | None = None,
    names: Iterable[str] = NAMES.values(),
    ephemeral: Iterable[str] = (),
    own_templates: Iterable[str] = (),
    inside: tuple[str, ...] = (),
    init_seconds: int = 0,
    claim_mode: str = "",
    waiting: str = "",
) -> dict:
    """Compute one server: what the shared templates place, from the settings and from what its kind says of it.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.
        ports: the settings of its ports without ``_port``, ``http`` among them; those that a pod listens on are reached.
        model: what it serves, for the closing table.
        size_bytes: what is downloaded before it answers; None when it is not known.
        arguments: of the main container.
        questions: what smoke asks it: ``path``, and where it has such ``body`` (a POST) and ``expect`` (a text in the answer).
        own_environment: what the main container needs: name to text, or to ``valueFrom``.
        own_volumes: the pod's volumes, those of ``scratch`` among them, each with the folder it is mounted on; only those by default.
        names: the settings that name its objects, where there are more than ``kinds.NAMES``.
        ephemeral: sizes of what it keeps on the node's disk beside ``/tmp``.
        own_templates: templates of its kind beside those that every server has.
        inside: hosts within the cluster that must not go through a proxy.
        init_seconds: what its init containers may take.
        claim_mode: of a claim that it mounts and that one node, or one pod, has at a time.
        waiting: its metric of requests that wait, where it has one.

    Returns:
        the settings, and beside them what the templates place and the project reads of a server (``servers.render``).
    """
    profile = node.hardware(settings, platform)
    found = {**common(settings, platform), **object_names(settings, *names)}
    numbers = {name: whole(settings, f"{name}_port", least=1, most=65535) for name in ports}
    if len(set(numbers.values())) < len(numbers):
        last = list(numbers)[-1]
        settings.wrong(numbers[last], f"the ports must differ from each other: {numbers}", f"{last}_port")
    amount(settings, "tmp_size")
    limits = node.resources(
        settings, platform, profile, [settings["tmp_size"], *ephemeral, *disk.sizes(settings)], ["shm_size"]
    )
    disk.check_memory(settings, limits)
    count = replicas(settings)
    affinity = dictionary(settings, "affinity")
    together = bool(claim_mode) and claims.check(settings, claim_mode, count, profile, limits)
    spread = [] if together and settings["topology_spread_constraints"] is None else None
    start = startup(settings, size_bytes, platform)
    found_volumes, mounts = volumes(settings, platform, scratch(settings) if own_volumes is None else own_volumes)
    found.update(
        {f"{name}_port": number for name, number in numbers.items()},
        deployment_annotations=deployment_annotations(settings, model),
        questions=questions,
        arguments=[expansion.kept(str(word)) for word in arguments],
        image=image(settings, platform),
        replicas=count,
        resources=limits,
        node_selector=node.node_selector(settings, profile),
        tolerations=node.tolerations(settings, profile),
        strategy=strategy(settings, _has_room(settings, platform, profile), bool(claim_mode)),
        affinity=claims.affinity(affinity, found["name"]) if together else affinity,
        topology_spread_constraints=topology_spread(settings, found["name"], count) if spread is None else spread,
        startup_probe=start["probe"],
        startup_allowance_seconds=start["seconds"],
        start_seconds=init_seconds + start["seconds"],
        autoscaled_pool=profile.get("autoscaled") is True,
        progress_deadline_seconds=progress_deadline(settings, platform, start["seconds"], init_seconds),
        # Prometheus asks a pod from its first second on, and one that starts does not answer.
        down_seconds=max(DOWN_SECONDS, init_seconds + start["seconds"]),
        environment=environment(settings, platform, own_environment or {}, inside),
        volumes=found_volumes,
        volume_mounts=mounts,
    )
    reached = {name: number for name, number in numbers.items() if name != "metrics"}
    found |= exposure.compute(settings, platform, found["service_name"], reached)
    found |= scaling.compute(settings, platform["namespace"], found["name"], found["service_name"], waiting)
    found["schedule_image"] = image(settings, platform, "schedule_image")
    found |= schedule.compute(settings, platform["namespace"], found["schedule_image"], found)
    found["templates"] = templates(found, settings, *own_templates)
    return found
