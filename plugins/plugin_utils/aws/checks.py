"""Checks what the AWS side of a cluster is to be, one variable against another; never against what is in AWS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import (
    KEY_ARN,
    account_of,
    partition_of,
    s3_location,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import MANAGED_BY
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.policies import folders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, problem

BUCKET = re.compile(r"(?!xn--|sthree-)(?=.{3,63}$)[a-z0-9]([a-z0-9-]|\.(?!\.))*[a-z0-9]", re.ASCII)
BOUNDARY = re.compile(r"arn:(aws(?:-cn|-us-gov)?):iam::(\d{12}|aws):policy/([!-.0-~]+/)*[\w+=,.@-]{1,128}", re.ASCII)
ISSUER = re.compile(r"https://[^\s?#]*[^\s?#/]")

# Whose S3 client asks for the bucket itself (CheckClient and IsDirectory in src/filesystem/implementations/s3.h of Triton's core).
TRITON = "triton"
# Variables of the role platform, without its prefix: what no two clusters have in common.
IDENTITY = ("aws_account_id", "aws_region", "cluster_name")


def twins(cluster: Mapping, others: Iterable[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Refuse a cluster that no tag, Sid or policy name could tell from that of another host.

    Args:
        cluster: the rendering's.
        others: the inventory's hosts, each with the values of ``IDENTITY``.
    """
    mine = dict(zip(IDENTITY, (cluster["account_id"], cluster["region"], cluster["name"]), strict=True))
    hosts = sorted(host for host, values in others if host != cluster["host"] and dict(values) == mine)
    if not hosts:
        return []
    allowed = f"must differ from that of {', '.join(hosts)}, of the same account and region, or each would take the other's AWS side for its own"
    return [problem("platform_cluster_name", cluster["name"], allowed)]


def check(options: Mapping) -> list[str]:
    """Check the variables against each other, before anything is asked of AWS.

    Args:
        options: of :func:`options.of`.

    Returns:
        the problems.
    """
    problems = Problems()
    _check_account(options, problems)
    for item in options["service_accounts"]:
        for index, entry in enumerate(item["access"]):
            _check_access(f"{item['variable']}[{index}]", entry, options, problems)
    for name, settings in options["buckets"].items():
        _check_bucket(f"irsa_buckets.{name}", name, settings or {}, options, problems)
    for item in options["service_accounts"]:
        _check_service_account(item, options, problems)
    return problems.lines


def notices(options: Mapping) -> list[str]:
    """Tell of a Triton whose role will not let it ask for its bucket, unless another policy of the role does."""
    found = []
    for item in options["service_accounts"] if options["state"] == "present" else []:
        for bucket, _ in (s3_location(url) for url in item.get("reads") or []):
            entries = [entry for entry in item["access"] if entry["bucket"] == bucket]
            if item["component"] == TRITON and entries and not any(entry.get("head_bucket") for entry in entries):
                found.append(
                    f"{item['variable']}: the bucket {bucket} needs head_bucket: true, since Triton's client calls HeadBucket"
                )
    return list(dict.fromkeys(found))


def _check_account(options: Mapping, problems: Problems) -> None:
    boundary = options["permissions_boundary"]
    match = BOUNDARY.fullmatch(boundary) if boundary else None
    if boundary and not (match and match[1] == options["partition"] and match[2] in (options["account_id"], "aws")):
        example = f"arn:{options['partition']}:iam::{options['account_id']}:policy/NAME"
        problems.add("irsa_permissions_boundary", boundary, f"must be the ARN of a policy such as {example}")
    if not 3600 <= options["max_session_seconds"] <= 43200:
        problems.add("irsa_max_session_seconds", options["max_session_seconds"], "must be from 3600 to 43200")
    issuer = options["oidc_issuer"]
    if issuer and not ISSUER.fullmatch(issuer):
        problems.add("irsa_oidc_issuer", issuer, "must be a URL that begins with https:// and does not end with /")
    if options["pod_identity"] and options["account_id"] != options["cluster_account_id"]:
        allowed = "must be the cluster's own account: a Pod Identity association takes no role of another"
        problems.add("irsa_account_id", options["account_id"], allowed)
    for key in options["tags"]:
        if str(key) == MANAGED_BY[0] or str(key).startswith(("modelyard/", "aws:")):
            problems.add(
                f"irsa_tags.{key}", options["tags"][key], "this key is set by modelyard or AWS: choose another"
            )


def _check_access(path: str, entry: Mapping, options: Mapping, problems: Problems) -> None:
    if not BUCKET.fullmatch(str(entry["bucket"])):
        problems.add(f"{path}.bucket", entry["bucket"], "must be the name of a bucket, without s3://")
    for prefix in entry.get("prefixes") or []:
        if re.search(r"[*?]|\$\{", str(prefix)) or not str(prefix).strip("/"):
            allowed = (
                "must be a folder such as models/, without wildcards and policy variables; none for the whole bucket"
            )
            problems.add(f"{path}.prefixes", prefix, allowed)
    _check_key(f"{path}.kms_key_arn", entry.get("kms_key_arn"), options, problems)


def _check_key(path: str, key: Any, options: Mapping, problems: Problems) -> None:
    match = KEY_ARN.fullmatch(str(key)) if key else None
    if key and not (match and match[1] == options["partition"]):
        example = f"arn:{options['partition']}:kms:{options['region']}:{options['account_id']}:key/ID"
        problems.add(path, key, f"must be the ARN of a key, not an alias: {example}")


def _check_bucket(path: str, name: str, settings: Mapping, options: Mapping, problems: Problems) -> None:
    if not BUCKET.fullmatch(str(name)):
        problems.add(path, name, "must be the name of a bucket, without s3://")
    _check_key(f"{path}.kms_key_arn", settings.get("kms_key_arn"), options, problems)
    for key in ("noncurrent_days", "multipart_days"):
        if settings.get(key) is not None and int(settings[key]) < 1:
            problems.add(f"{path}.{key}", settings[key], "must be 1 or more")
    key = settings.get("kms_key_arn") or ""
    for item in options["service_accounts"]:
        for index, entry in enumerate(item["access"]):
            if entry["bucket"] == name and (entry.get("kms_key_arn") or "") != key:
                allowed = f"must be {key!r}, the key of {path}"
                problems.add(f"{item['variable']}[{index}].kms_key_arn", entry.get("kms_key_arn"), allowed)


def _check_service_account(item: Mapping, options: Mapping, problems: Problems) -> None:
    arn, name = item["role_arn"], f"{item['namespace']}/{item['name']}"
    if partition_of(arn) != options["partition"]:
        problems.add(f"the role of ServiceAccount {name}", arn, f"must be in the partition {options['partition']}")
    if account_of(arn) != options["account_id"]:
        return
    if not item["access"]:
        allowed = "names no bucket, but its ServiceAccount has a role: name one, or set the role's name to ''"
        problems.add(item["variable"], [], f"{allowed} ({name})")
        return
    for location in item.get("reads") or []:
        bucket, prefix = s3_location(location)
        entries = [entry for entry in item["access"] if entry["bucket"] == bucket]
        if bucket and not any(
            not folders(entry) or any(f"{prefix}/".startswith(f) for f in folders(entry)) for entry in entries
        ):
            allowed = f"must hold the bucket {bucket!r} and the folder {prefix!r}: {name} reads {location}"
            problems.add(item["variable"], [dict(entry) for entry in item["access"]], allowed)
