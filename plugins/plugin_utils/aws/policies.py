"""Composes, merges and compares the documents that say who may do what: trust, permissions, a bucket's policy; never sends one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import KEY_ARN, camel

# What the token of a pod is for; EKS's webhook asks for this audience in every partition.
AUDIENCE = "sts.amazonaws.com"
POD_IDENTITY = "pods.eks.amazonaws.com"
# Those that a trust policy of ours tells pods apart by.
SESSION_TAGS = ("eks-cluster-arn", "kubernetes-namespace", "kubernetes-service-account")
SUFFIXES = {"aws-cn": "amazonaws.com.cn"}
TLS_ONLY = "ModelyardTlsOnly"
READ = ["s3:GetObject"]
# A large upload goes in parts, and one that fails takes its parts away.
WRITE = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject"]


def document(statements: Iterable[Mapping]) -> dict:
    """Put statements into a policy."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def web_identity_statement(sid_: str, provider: str, subjects: Iterable[str]) -> dict:
    """Trust exactly these ServiceAccounts of the cluster behind a provider."""
    host = provider.partition("/")[2]
    return {
        "Sid": sid_,
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{host}:aud": AUDIENCE, f"{host}:sub": _alone(subjects)}},
    }


def pod_identity_statement(sid_: str, cluster: str, accounts: Iterable[tuple[str, str]]) -> dict:
    """Trust EKS Pod Identity for exactly these ServiceAccounts of one cluster, by the session tags that EKS sets.

    Args:
        sid_: the statement's name.
        cluster: the EKS cluster's ARN.
        accounts: namespace and name of each; all of one namespace, or else the tags would allow more than these.
    """
    pairs = sorted(set(accounts))
    tags = {
        "eks-cluster-arn": cluster,
        "kubernetes-namespace": _alone(namespace for namespace, _ in pairs),
        "kubernetes-service-account": _alone(name for _, name in pairs),
    }
    return {
        "Sid": sid_,
        "Effect": "Allow",
        "Principal": {"Service": POD_IDENTITY},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {f"aws:RequestTag/{name}": value for name, value in tags.items()}},
    }


def merge_trust(
    live: Mapping | None, sid_: str, statement: Mapping | None, owned: Callable[[str], bool]
) -> tuple[dict, list[dict]]:
    """Put a cluster's statement into a role's trust policy, or take it out.

    Args:
        live: the role's trust policy, or None.
        sid_: the name of the cluster's statement.
        statement: it, or None to take it out.
        owned: tells by its Sid whether a statement is of a cluster that the role stands for.

    Returns:
        the new policy, its statements sorted by name: ours and those of other clusters; and the statements of no cluster that
        the role stands for, which are not in it.
    """
    found = [dict(item) for item in iam.listed((live or {}).get("Statement") or []) if item.get("Sid") != sid_]
    others = [item for item in found if owned(str(item.get("Sid", "")))]
    foreign = [item for item in found if not owned(str(item.get("Sid", "")))]
    kept = [*others, *([dict(statement)] if statement else [])]
    return document(sorted(kept, key=lambda item: item["Sid"])), foreign


def permissions(access: Iterable[Mapping], account: str, partition: str) -> dict:
    """Give the least policy for a list of buckets.

    A list needs a prefix, but where the client calls HeadBucket, which has none. Each statement holds only while the bucket
    belongs to the account: whoever takes a bucket's name after its deletion gets no writes.

    Args:
        access: entries of the ServiceAccounts' ``access``: ``bucket``, ``prefixes``, ``write``, ``head_bucket``, ``kms_key_arn``, ``account_id``.
        account: the account of the buckets that name none.
        partition: of the ARNs.
    """
    statements: list[dict] = []
    names: dict[str, int] = {}
    for entry in _distinct(access):
        bucket = f"arn:{partition}:s3:::{entry['bucket']}"
        base = camel(entry["bucket"])
        names[base] = names.get(base, 0) + 1
        name = base if names[base] == 1 else f"{base}{names[base]}"
        owner = {"StringEquals": {"aws:ResourceAccount": entry.get("account_id") or account}}
        prefixes = folders(entry)
        keys = _alone(f"{bucket}/{prefix}*" for prefix in prefixes or [""])
        listing: dict[str, Any] = {}
        if not entry.get("head_bucket"):
            listing = (
                {"StringLike": {"s3:prefix": _alone(f"{prefix}*" for prefix in prefixes)}}
                if prefixes
                else {"Null": {"s3:prefix": "false"}}
            )
        statements.append(_allow(f"List{name}", "s3:ListBucket", bucket, {**owner, **listing}))
        statements.append(_allow(f"Read{name}", _alone(READ), keys, owner))
        if entry.get("write"):
            statements.append(_allow(f"Write{name}", WRITE, keys, owner))
        if entry.get("kms_key_arn"):
            statements.append(_decrypt(name, entry))
    return document(statements)


def _decrypt(name: str, entry: Mapping) -> dict:
    partition, region = KEY_ARN.fullmatch(entry["kms_key_arn"]).groups()
    service = f"s3.{region}.{SUFFIXES.get(partition, 'amazonaws.com')}"
    actions = ["kms:Decrypt", "kms:GenerateDataKey"] if entry.get("write") else "kms:Decrypt"
    return _allow(f"Key{name}", actions, entry["kms_key_arn"], {"StringEquals": {"kms:ViaService": service}})


def _allow(sid_: str, action: Any, resource: Any, condition: Mapping) -> dict:
    return {"Sid": sid_, "Effect": "Allow", "Action": action, "Resource": resource, "Condition": dict(condition)}


def _distinct(access: Iterable[Mapping]) -> list[dict]:
    """Drop entries that say the same: two servers may share a role, and a bucket."""
    found: dict[str, dict] = {}
    for entry in access:
        plain = {key: value for key, value in entry.items() if value not in (None, "", False, [])}
        plain["prefixes"] = folders(entry)
        found.setdefault(json.dumps(plain, sort_keys=True), plain)
    return sorted(found.values(), key=lambda entry: (entry["bucket"], json.dumps(entry, sort_keys=True)))


def folders(entry: Mapping) -> list[str]:
    """Give the prefixes of an access entry, each with the slash that keeps ``models`` from being ``models-old`` too."""
    return sorted({f"{str(prefix).strip('/')}/" for prefix in entry.get("prefixes") or [] if str(prefix).strip("/")})


def requests(
    entry: Mapping, account: str, partition: str, region: str = "", who: iam.Session | None = None
) -> list[tuple[str, iam.Request]]:
    """List what a client does with the bucket of an access entry, each with its name in S3's API.

    The first arguments are those of :func:`permissions`.

    Args:
        region: the bucket's; empty where that is not known.
        who: the session that asks.
    """
    place = {"partition": partition, "account": entry.get("account_id") or account, "region": region, "who": who}
    bucket = entry["bucket"]
    found = [("HeadBucket", "", None)] if entry.get("head_bucket") else []
    for prefix in folders(entry) or [""]:
        found += [("ListObjectsV2", "", prefix), ("GetObject", f"{prefix}key", None)]
        if entry.get("write"):
            operations = ("PutObject", "DeleteObject", "AbortMultipartUpload", "ListParts")
            found += [(operation, f"{prefix}key", None) for operation in operations]
    asked = [(name, iam.s3(name, bucket, key, prefix=prefix, **place)) for name, key, prefix in found]
    if entry.get("kms_key_arn"):
        statement, arn = _decrypt("", entry), f"arn:{partition}:s3:::{bucket}"
        service = statement["Condition"]["StringEquals"]["kms:ViaService"]
        objects = (arn, *(f"{arn}/{prefix}*" for prefix in folders(entry) or [""]))
        asked += [
            (action.partition(":")[2], iam.kms(action, entry["kms_key_arn"], service, objects, who))
            for action in iam.listed(statement["Action"])
        ]
    return asked


def tls_only(bucket: str, partition: str) -> dict:
    """Refuse a bucket's requests over a connection that is not encrypted."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Sid": TLS_ONLY,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def merge_bucket_policy(live: Mapping | None, statement: Mapping) -> dict:
    """Put a statement of ours into a bucket's policy; those of others stay."""
    found = iam.listed((live or {}).get("Statement") or [])
    rest = [dict(item) for item in found if item.get("Sid") != statement["Sid"]]
    return {**document([*rest, dict(statement)]), **({"Id": live["Id"]} if live and live.get("Id") else {})}


def same(one: Any, other: Any) -> bool:
    """Tell whether two policies say the same: AWS gives a list of one back as that one, and lists in any order."""
    return normal(one) == normal(other)


def normal(value: Any) -> Any:
    """Give a policy in one form of the many that mean the same."""
    if isinstance(value, Mapping):
        return {key: normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = sorted((normal(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return str(value).lower() if isinstance(value, bool) else value


def _alone(values: Iterable[str]) -> Any:
    found = sorted(set(values))
    return found[0] if len(found) == 1 else found
