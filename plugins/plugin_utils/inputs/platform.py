"""Checks what the platform's variables must fulfil beyond their types; never connects to anything."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import ACCOUNT
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.names import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    GPU,
    LABEL_NAME,
    URL,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest, problem, where

REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d", re.ASCII)
UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ROLE_PATH = re.compile(r"/([!-~]{1,510}/)?")
IMAGE_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*", re.ASCII)
REGION_PREFIXES = {"aws-cn": "cn-", "aws-us-gov": "us-gov-"}
# What every node gives away, with an example.
NATIVE = {"cpu": "3920m", "memory": "14162Mi", "ephemeral-storage": "90Gi"}
OURS = ("app", "app.kubernetes.io/managed-by")

NAME = "must be a name of up to 63 lower-case letters, digits and -"


def check_platform(values: Mapping, profiles: Mapping) -> list[str]:
    """Check the platform's variables.

    Args:
        values: the variables, templated. Those whose type is wrong are left out, and with them the checks that need them.
        profiles: the hardware profiles, the inventory's merged over the built-in ones.

    Returns:
        the problems.
    """
    lines: list[str] = []
    checks = [_names, _pull_secrets, _token, _identity, _account, _region, _role_path]
    checks += [_hugging_face, _proxy, _mirrors, _connection, _metadata]
    for check in checks:
        try:
            lines += check(values)
        except KeyError:
            continue
    for name, profile in profiles.items():
        lines += _profile(name, profile)
    return lines


def _match(values: Mapping, name: str, pattern: re.Pattern, allowed: str) -> list[str]:
    """A variable that is set must match."""
    value = values.get(name)
    return [problem(name, value, allowed)] if value not in ("", None) and not pattern.fullmatch(str(value)) else []


def _names(values: Mapping) -> list[str]:
    namespaces = ("platform_namespace", "platform_argocd_namespace", "platform_ai_namespace")
    lines = [
        problem(name, values[name], NAME)
        for name in namespaces
        if name in values and not DNS_LABEL.fullmatch(str(values[name]))
    ]
    lines += _match(values, "platform_ca_bundle_configmap", DNS_SUBDOMAIN, NAME)
    cluster = values["platform_cluster_name"]
    if not LABEL_NAME.fullmatch(str(cluster)):
        allowed = "becomes a label, so up to 63 letters, digits, -, _ and ., with a letter or digit at both ends"
        lines.append(problem("platform_cluster_name", cluster, allowed))
    return lines


def _pull_secrets(values: Mapping) -> list[str]:
    return [
        problem(f"platform_image_pull_secrets[{index}]", name, NAME)
        for index, name in enumerate(values["platform_image_pull_secrets"])
        if not DNS_SUBDOMAIN.fullmatch(str(name))
    ]


def _token(values: Mapping) -> list[str]:
    secret = values["platform_hf_token_secret"]
    if secret and not (secret.get("name") and secret.get("key")):
        return [problem("platform_hf_token_secret", dict(secret), "needs name and key, or neither", where(secret))]
    return []


def _identity(values: Mapping) -> list[str]:
    lines = _match(
        values,
        "platform_api_server",
        URL,
        "must be a URL such as https://api.example.com:6443, without user and password",
    )
    lines += _match(
        values, "platform_kube_system_uid", UID, "must be a UID such as 0b5c6d2e-7f3a-4a8e-9d51-2c1f0e9b7a64"
    )
    url = values["platform_api_server"]
    if values.get("platform_require_tls") and url and str(url).lower().startswith("http:"):
        lines.append(problem("platform_api_server", url, "must begin with https, since platform_require_tls is true"))
    if not values["platform_api_server"] and not values["platform_kube_system_uid"]:
        lines.append(
            "platform_api_server and platform_kube_system_uid are both empty: set at least one, so that a run can tell "
            f"the cluster that it means from the one that its {'credential' if job.number() else 'kubeconfig or environment'} leads to (see "
            f"{'the URL in the Kubernetes credential' if job.number() else '`kubectl config view --minify`'}, "
            "or `kubectl get namespace kube-system -o jsonpath={.metadata.uid}`)"
        )
    return lines


def _account(values: Mapping) -> list[str]:
    account = values["platform_aws_account_id"]
    allowed = "must be the 12 digits of the AWS account, in quotes"
    if account not in ("", None):
        octal = " (YAML reads a number with a leading 0 as octal)" if str(account).isdigit() else ""
        wrong = not ACCOUNT.fullmatch(str(account))
        return [problem("platform_aws_account_id", account, allowed + octal)] if wrong else []
    if not is_true(values["platform_irsa_enabled"]):
        return []
    allowed += ", because the ServiceAccounts name IAM roles (or set platform_irsa_enabled to false)"
    return [problem("platform_aws_account_id", account, allowed)]


def _region(values: Mapping) -> list[str]:
    region = values["platform_aws_region"]
    if not REGION.fullmatch(str(region)):
        return [problem("platform_aws_region", region, "must be an AWS region such as eu-central-1")]
    partition = next((name for name, prefix in REGION_PREFIXES.items() if region.startswith(prefix)), "aws")
    if values["platform_aws_partition"] != partition:
        allowed = f"must be {partition}, the partition of the region {region}"
        return [problem("platform_aws_partition", values["platform_aws_partition"], allowed)]
    return []


def _role_path(values: Mapping) -> list[str]:
    path = values["platform_irsa_role_path"]
    wrong = not ROLE_PATH.fullmatch(str(path))
    return (
        [problem("platform_irsa_role_path", path, "must begin and end with /, with up to 512 characters")]
        if wrong
        else []
    )


def _hugging_face(values: Mapping) -> list[str]:
    return _match(
        values, "platform_hf_endpoint", URL, "must be a URL such as https://hf.example.com, without user and password"
    )


def _proxy(values: Mapping) -> list[str]:
    allowed = "must be a URL such as http://proxy.example.com:3128, without user and password"
    return [
        problem(f"platform_proxy.{key}", url, allowed, where(key))
        for key, url in values["platform_proxy"].items()
        if key != "no_proxy" and url and not URL.fullmatch(str(url))
    ]


def _mirrors(values: Mapping) -> list[str]:
    allowed = "must map a registry such as nvcr.io, or a prefix below it, to another, both without a scheme"
    return [
        problem(f"platform_image_registry_mirrors.{registry}", mirror, allowed, where(registry))
        for registry, mirror in values["platform_image_registry_mirrors"].items()
        if not IMAGE_PREFIX.fullmatch(str(registry)) or not IMAGE_PREFIX.fullmatch(str(mirror))
    ]


def _connection(values: Mapping) -> list[str]:
    connection = values["platform_connection"]
    return [
        problem(
            f"platform_connection.{key}", connection[key], "must be a URL, without user and password", where(connection)
        )
        for key in ("host", "proxy")
        if connection.get(key) and not URL.fullmatch(str(connection[key]))
    ]


def _metadata(values: Mapping) -> list[str]:
    return [
        problem(f"{name}.{key}", value, "modelyard sets this key itself: choose another", where(key))
        for name in ("platform_extra_labels", "platform_extra_annotations")
        if name in values
        for key, value in values[name].items()
        if key in OURS or str(key).startswith(("modelyard/", "applyset.kubernetes.io/"))
    ]


def _profile(name: str, profile: Mapping) -> list[str]:
    """Check one hardware profile, the inventory's part merged over the built-in one."""
    path = f"platform_hardware_profiles.{name}"
    lines = []
    if not LABEL_NAME.fullmatch(str(name)):
        lines.append(problem(path, dict(profile), "the name must be letters, digits, -, _ and .", where(name)))
    missing = [key for key in ("instance_type", "labels", "gpus", "allocatable") if profile.get(key) in (None, "", {})]
    gpus = int(profile.get("gpus") or 0)
    if gpus or profile.get("gpu_type"):
        missing += [key for key in ("gpu_type", "gpu_memory_gib") if not profile.get(key)]
    if missing:
        kind = profile.get("instance_type")
        allowed = f"needs {', '.join(missing)}"
        if "allocatable" in missing and kind:
            allowed += f": nothing is known of a {kind} (roles/platform/instance_types.yml)"
        lines.append(problem(path, dict(profile), allowed, where(profile) or where(kind) or where(name)))
    if gpus and profile.get("gpu_memory_gib") and float(profile["gpu_memory_gib"]) <= 0:
        lines.append(
            problem(f"{path}.gpu_memory_gib", profile["gpu_memory_gib"], "must be more than 0 (GiB of one GPU)")
        )
    if "gpu_resource" in profile and not GPU.search(profile["gpu_resource"]):
        allowed = "must be what counts GPUs, such as nvidia.com/gpu, nvidia.com/mig-1g.10gb or aws.amazon.com/neuron"
        lines.append(problem(f"{path}.gpu_resource", profile["gpu_resource"], allowed))
    allocatable = profile.get("allocatable") or {}
    place = where(allocatable)
    lines += [
        problem(f"{path}.allocatable", dict(allocatable), f"needs {key}", place)
        for key in ("cpu", "memory")
        if allocatable and allocatable.get(key) is None
    ]
    found = [_allocatable(f"{path}.allocatable.{key}", key, value, place) for key, value in allocatable.items()]
    lines += [line for line in found if line]
    for index, taint in enumerate(profile.get("taints") or []):
        lines += _taint(f"{path}.taints[{index}]", taint)
    return lines


def _allocatable(path: str, key: str, value: object, place: str) -> str:
    """Check one resource of a node; an empty text for a right one."""
    if key not in NATIVE and "/" not in key and not key.startswith("hugepages-"):
        return problem(path, value, f"{nearest(key, NATIVE)}, hugepages-SIZE, DOMAIN/NAME", place)
    if value is None or _positive(value) or ("/" in key and str(value) == "0"):
        return ""
    return problem(path, value, f"must be a quantity such as {NATIVE.get(key, 1)}", place)


def _taint(path: str, taint: Mapping) -> list[str]:
    prefix, slash, name = str(taint["key"]).rpartition("/")
    lines = []
    if not LABEL_NAME.fullmatch(name) or (slash and not DNS_SUBDOMAIN.fullmatch(prefix)):
        lines.append(problem(f"{path}.key", taint["key"], "must be NAME or DOMAIN/NAME", where(taint)))
    value = taint.get("value")
    if value not in (None, "") and not LABEL_NAME.fullmatch(str(value)):
        lines.append(problem(f"{path}.value", value, "must be up to 63 letters, digits, -, _ and .", where(taint)))
    return lines


def _positive(value: object) -> bool:
    try:
        return quantity.parse(value) > 0
    except ValueError:
        return False
