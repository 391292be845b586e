"""Checks what the AWS side of a cluster is to be, one variable against another; never against what is in AWS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import (
    ACCESS_POINT,
    ACCOUNT,
    EKS_NAME,
    KEY_ARN,
    MANAGED_KEY,
    account_of,
    bucket_error,
    partition_of,
    s3_location,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.options import bucket_account, with_accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import MANAGED_BY, MOST_TAGS, PREFIX
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.policies import entries_of, folders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, problem

BOUNDARY = re.compile(r"arn:(aws(?:-cn|-us-gov)?):iam::(\d{12}|aws):policy/([!-.0-~]+/)*[\w+=,.@-]{1,128}", re.ASCII)
# IAM keeps an issuer as it is written, compares it with the token's as text, and takes neither port nor query.
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html
ISSUER = re.compile(r"(?=.{1,255}$)https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[\w.~@:+=-]+)*", re.ASCII)
# https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html, and S3's and EKS's are no narrower.
TAG = re.compile(r"[\w .:/=+@-]*")
LONGEST_KEY, LONGEST_VALUE = 128, 256
MOST_DAYS = 2**31 - 1

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
    _check_issuer(options, problems)
    _check_tags(options["tags"], problems)
    _check_roles(options, problems)
    for name, settings in options["buckets"].items():
        _check_bucket(f"irsa_buckets.{name}", name, settings or {}, options, problems)
    for item, whole in zip(options["service_accounts"], with_accounts(options)["service_accounts"], strict=True):
        for index, entry in enumerate(item["access"]):
            _check_access(f"{item['variable']}[{index}]", entry, item["role_arn"], options, problems)
            owner = whole["access"][index]["account_id"]
            _check_key_use(f"{item['variable']}[{index}].kms_key_arn", entry, item["role_arn"], owner, problems)
    for item in options["service_accounts"]:
        _check_service_account(item, options, problems)
    return problems.lines


def notices(options: Mapping) -> list[str]:
    """Tell of a Triton whose role will not let it ask for its bucket, unless another policy of the role does."""
    found = []
    for item in options["service_accounts"] if options["state"] == "present" else []:
        for bucket, _ in (s3_location(url) for url in item.get("reads") or []):
            entries = entries_of(item["access"], bucket)
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
    if options["pod_identity"] and options["account_id"] != options["cluster_account_id"]:
        allowed = "must be the cluster's own account: a Pod Identity association takes no role of another"
        problems.add("irsa_account_id", options["account_id"], allowed)


def _check_issuer(options: Mapping, problems: Problems) -> None:
    issuer = options["oidc_issuer"]
    if issuer and not ISSUER.fullmatch(issuer):
        allowed = (
            "must be a URL that begins with https:// and a host in lower case, has no port and no query, and does not end with /: "
            "IAM takes no other, and it must be the issuer as the cluster's tokens have it"
        )
        problems.add("irsa_oidc_issuer", issuer, allowed)
    needs_eks = options["pod_identity"] or not issuer
    if options["service_accounts"] and needs_eks and not EKS_NAME.fullmatch(options["eks_cluster_name"]):
        allowed = "must be a cluster's name in EKS: up to 100 letters, digits, - and _"
        problems.add("irsa_eks_cluster_name", options["eks_cluster_name"], allowed)


def _check_tags(tags: Mapping, problems: Problems) -> None:
    seen: set[str] = set()
    for key, value in tags.items():
        path, plain = f"irsa_tags.{key}", str(key).lower()
        if plain == MANAGED_BY[0] or plain.startswith((PREFIX.partition("/")[0] + "/", "aws:")):
            problems.add(path, value, "this key is set by modelyard or AWS: choose another")
        elif not TAG.fullmatch(str(key)) or not 1 <= len(str(key)) <= LONGEST_KEY:
            problems.add(path, value, "a tag's key has 1 to 128 letters, digits, spaces and _.:/=+-@")
        elif plain in seen:
            problems.add(path, value, "differs from another key in case alone, and IAM takes both for one")
        seen.add(plain)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            problems.add(path, value, "must be a text, in quotes")
        elif not TAG.fullmatch(str(value)) or len(str(value)) > LONGEST_VALUE or str(value).lower().startswith("aws:"):
            allowed = "a tag's value has up to 256 letters, digits, spaces and _.:/=+-@, and does not begin with aws:"
            problems.add(path, value, allowed)
    # Ours are two.
    if len(tags) > MOST_TAGS - 2:
        problems.add("irsa_tags", len(tags), f"AWS takes {MOST_TAGS} tags, and two of them are modelyard's")


def _check_roles(options: Mapping, problems: Problems) -> None:
    """Refuse roles that IAM takes for one: names differ in more than their case and their path."""
    arns: dict[tuple[str, str], set[str]] = {}
    for arn in {*options["role_arns"], *(item["role_arn"] for item in options["service_accounts"])}:
        arns.setdefault((account_of(arn), arn.rpartition("/")[2].lower()), set()).add(arn)
    for same in sorted(sorted(found) for found in arns.values() if len(found) > 1):
        allowed = f"and {', '.join(same[1:])} are one role to IAM, whatever case and path: give each its own name"
        problems.add("a role", same[0], allowed)


def _check_access(path: str, entry: Mapping, role_arn: str, options: Mapping, problems: Problems) -> None:
    wrong = bucket_error(entry["bucket"])
    if wrong:
        problems.add(f"{path}.bucket", entry["bucket"], wrong)
    for prefix in entry.get("prefixes") or []:
        if re.search(r"[*?]|\$\{", str(prefix)) or not str(prefix).strip("/"):
            allowed = (
                "must be a folder such as models/, without wildcards and policy variables; none for the whole bucket"
            )
            problems.add(f"{path}.prefixes", prefix, allowed)
    _check_key(f"{path}.kms_key_arn", entry.get("kms_key_arn"), options, problems)
    account, ours = entry.get("account_id"), entry["bucket"] in options["buckets"]
    if account and not ACCOUNT.fullmatch(str(account)):
        problems.add(f"{path}.account_id", account, "must be the 12 digits of the bucket's account, in quotes")
    elif account and ours and str(account) != bucket_account(entry["bucket"], options):
        allowed = f"must be {bucket_account(entry['bucket'], options)}, the account of irsa_buckets.{entry['bucket']}"
        problems.add(f"{path}.account_id", account, allowed)
    point = entry.get("access_point")
    match = ACCESS_POINT.fullmatch(str(point)) if point else None
    if point and not (match and match[1] == options["partition"]):
        example = f"arn:{options['partition']}:s3:{options['region']}:{account_of(role_arn)}:accesspoint/NAME"
        problems.add(f"{path}.access_point", point, f"must be the ARN of an access point of one region: {example}")
    elif match and ours and match[2] != options["region"]:
        allowed = f"must be in {options['region']}, the region of irsa_buckets.{entry['bucket']}"
        problems.add(f"{path}.access_point", point, allowed)


def _check_key(path: str, key: Any, options: Mapping, problems: Problems) -> None:
    match = KEY_ARN.fullmatch(str(key)) if key and key != MANAGED_KEY else None
    if key and key != MANAGED_KEY and not (match and match[1] == options["partition"]):
        example = f"arn:{options['partition']}:kms:{options['region']}:{options['account_id']}:key/ID"
        allowed = f"must be the ARN of a key, not an alias: {example}; or {MANAGED_KEY}, AWS's own key in KMS"
        problems.add(path, key, allowed)


def _check_key_use(path: str, entry: Mapping, role_arn: str, owner: str, problems: Problems) -> None:
    """Check a key against the bucket and the role that uses it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html: the key is in the bucket's region, and AWS's own
    is of use in its account alone.
    """
    key = entry.get("kms_key_arn")
    if key == MANAGED_KEY and owner != account_of(role_arn):
        allowed = f"the bucket is account {owner}'s, and no other account may use its {MANAGED_KEY}: encrypt it with a key of its own"
        problems.add(path, key, f"{allowed} ({role_arn})")
    point, match = (
        pattern.fullmatch(str(entry.get(name) or ""))
        for name, pattern in (("access_point", ACCESS_POINT), ("kms_key_arn", KEY_ARN))
    )
    if point and match and point[2] != match[2]:
        problems.add(path, key, f"must be a key in {point[2]}, the region of access_point and its bucket")


def _new_bucket_error(name: str, options: Mapping) -> str | None:
    """Tell why S3 would not make a bucket of this name, or None."""
    regional = f"-{bucket_account(name, options)}-{options['region']}-an"
    if name.endswith("-an") and not name.endswith(regional):
        return f"must not end with -an: S3 keeps that for an account's own namespace, as NAME{regional}"
    return bucket_error(name)


def _check_bucket(path: str, name: str, settings: Mapping, options: Mapping, problems: Problems) -> None:
    wrong, account = _new_bucket_error(str(name), options), settings.get("account_id")
    if wrong:
        problems.add(path, name, wrong)
    if account and not ACCOUNT.fullmatch(str(account)):
        problems.add(f"{path}.account_id", account, "must be the 12 digits of the bucket's account, in quotes")
    key = settings.get("kms_key_arn") or ""
    _check_key(f"{path}.kms_key_arn", key, options, problems)
    match = KEY_ARN.fullmatch(str(key))
    if match and match[2] != options["region"]:
        problems.add(f"{path}.kms_key_arn", key, f"must be a key in {options['region']}, the bucket's region")
    for days in ("noncurrent_days", "multipart_days"):
        if settings.get(days) is not None and not 1 <= int(settings[days]) <= MOST_DAYS:
            problems.add(f"{path}.{days}", settings[days], f"must be 1 or more, up to {MOST_DAYS}")
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
        entries = entries_of(item["access"], bucket)
        if bucket and not any(
            not folders(entry) or any(f"{prefix}/".startswith(f) for f in folders(entry)) for entry in entries
        ):
            allowed = f"must hold the bucket {bucket!r} and the folder {prefix!r}: {name} reads {location}"
            problems.add(item["variable"], [dict(entry) for entry in item["access"]], allowed)
