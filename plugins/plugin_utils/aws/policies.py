"""Composes, merges and compares the documents that say who may do what: trust, permissions, a bucket's policy; never sends one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import (
    ACCESS_POINT,
    ALIAS,
    KEY_ARN,
    MANAGED_KEY,
    account_of,
    camel,
    subject,
)

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


def trust_statement(sid_: str, carriers: Iterable[Mapping], trusted: str, pod_identity: bool) -> dict:
    """Trust exactly the ServiceAccounts that carry a role.

    Args:
        sid_: the statement's name.
        carriers: the ServiceAccounts: ``namespace`` and ``name``.
        trusted: ARN of the OIDC provider, or with EKS Pod Identity of the EKS cluster.
        pod_identity: whether EKS Pod Identity gives the role.
    """
    accounts = [(item["namespace"], item["name"]) for item in carriers]
    if pod_identity:
        return pod_identity_statement(sid_, trusted, accounts)
    return web_identity_statement(sid_, trusted, [subject(*account) for account in accounts])


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
    """Give the least policy for a list of buckets: entries of one bucket are one grant, which allows what any of them does.

    A list needs a prefix, but where the client calls HeadBucket, which has none. Each statement holds only while the bucket
    belongs to its account: whoever takes a bucket's name after its deletion gets no writes.

    Args:
        access: entries of the ServiceAccounts' ``access``: ``bucket``, ``prefixes``, ``write``, ``head_bucket``, ``kms_key_arn``, ``account_id``,
            ``access_point``.
        account: the account of the buckets that name none.
        partition: of the ARNs.
    """
    grants: dict[tuple, list[Mapping]] = {}
    for entry in access:
        place = (entry["bucket"], entry.get("account_id") or account, entry.get("access_point") or "")
        grants.setdefault(place, []).append(entry)
    statements: list[dict] = []
    for (bucket, owner, access_point), entries in sorted(grants.items()):
        places = [(f"arn:{partition}:s3:::{bucket}", "/")]
        condition: dict[str, Any] = {"StringEquals": {"aws:ResourceAccount": owner}}
        if access_point:
            # S3 asks twice: about the access point, and about its bucket.
            places.append((access_point, "/object/"))
            owners = _alone([owner, account_of(access_point)])
            condition = {
                "StringEquals": {"aws:ResourceAccount": owners},
                "ArnEquals": {"s3:DataAccessPointArn": access_point},
            }
        statements += _granted(camel(bucket), places, condition, entries)
    return document(_named_apart(statements))


def _named_apart(statements: Iterable[Mapping]) -> Iterator[dict]:
    """Number the Sids that several have: IAM takes each once, and buckets such as a-b and a.b have one in common."""
    names: set[str] = set()
    for statement in statements:
        name, number = statement["Sid"], 1
        while name in names:
            number += 1
            name = f"{statement['Sid']}{number}"
        names.add(name)
        yield {**statement, "Sid": name}


def _granted(
    name: str, places: list[tuple[str, str]], condition: Mapping, entries: list[Mapping]
) -> Iterator[dict[str, Any]]:
    """Give the statements of one bucket.

    Args:
        name: of the bucket, as a Sid has it.
        places: the bucket's ARN, and its access point's, each with what comes before a key.
        condition: of each statement.
        entries: of the access to it.
    """
    listing: dict[str, Any] = {}
    if not any(entry.get("head_bucket") for entry in entries):
        lists = _prefixes(entries)
        listing = {"Null": {"s3:prefix": "false"}}
        if lists != [""]:
            listing = {"StringLike": {"s3:prefix": _alone(f"{prefix}*" for prefix in lists)}}
    yield _allow(f"List{name}", "s3:ListBucket", _alone(arn for arn, _ in places), {**condition, **listing})
    writing = [entry for entry in entries if entry.get("write")]
    for what, actions, those in (("Read", _alone(READ), entries), ("Write", WRITE, writing)):
        if those:
            keys = _alone(f"{arn}{to}{prefix}*" for arn, to in places for prefix in _prefixes(those))
            yield _allow(f"{what}{name}", actions, keys, condition)
    for key in sorted({key_of(entry) for entry in entries} - {""}):
        writes = any(entry.get("write") for entry in entries if key_of(entry) == key)
        yield _decrypt(name, {"kms_key_arn": key, "write": writes})


def _prefixes(entries: Iterable[Mapping]) -> list[str]:
    """Give the folders of some entries together, without those within others; '' alone for the whole bucket."""
    found: list[str] = []
    # In order, so that a folder comes right before what is in it.
    for prefix in sorted({prefix for entry in entries for prefix in folders(entry) or [""]}):
        if not (found and prefix.startswith(found[-1])):
            found.append(prefix)
    return found


def key_of(entry: Mapping) -> str:
    """Give the key that a role needs rights on; '' for none: AWS's own key lets everyone of its account use it through S3.

    https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#aws-managed-cmk
    """
    key = entry.get("kms_key_arn") or ""
    return "" if key == MANAGED_KEY else key


def entries_of(access: Iterable[Mapping], bucket: str) -> list[Mapping]:
    """Pick the access entries for what a client calls a bucket: its name, or the alias of an access point to it.

    An alias begins with the access point's name, or as much of it as there is room for.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
    """
    if not bucket.endswith(ALIAS):
        return [entry for entry in access if entry["bucket"] == bucket]
    begin = bucket.removesuffix(ALIAS).rpartition("-")[0]
    points = [(entry, ACCESS_POINT.fullmatch(entry.get("access_point") or "")) for entry in access]
    return [entry for entry, match in points if match and begin and match[4].startswith(begin)]


def _decrypt(name: str, entry: Mapping) -> dict:
    match = KEY_ARN.fullmatch(entry["kms_key_arn"])
    if match is None:
        raise iam.PolicyError(f"{entry['kms_key_arn']!r} is not the ARN of a key")
    partition, region = match.groups()
    service = f"s3.{region}.{SUFFIXES.get(partition, 'amazonaws.com')}"
    actions = ["kms:Decrypt", "kms:GenerateDataKey"] if entry.get("write") else "kms:Decrypt"
    return _allow(f"Key{name}", actions, entry["kms_key_arn"], {"StringEquals": {"kms:ViaService": service}})


def _allow(sid_: str, action: Any, resource: Any, condition: Mapping) -> dict:
    return {"Sid": sid_, "Effect": "Allow", "Action": action, "Resource": resource, "Condition": dict(condition)}


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
    if entry.get("access_point"):
        asked = list(_through(entry["access_point"], asked))
    if key_of(entry):
        statement, arn = _decrypt("", entry), f"arn:{partition}:s3:::{bucket}"
        service = statement["Condition"]["StringEquals"]["kms:ViaService"]
        objects = (arn, *(f"{arn}/{prefix}*" for prefix in folders(entry) or [""]))
        asked += [
            (action.partition(":")[2], iam.kms(action, entry["kms_key_arn"], service, objects, who))
            for action in iam.listed(statement["Action"])
        ]
    return asked


def _through(access_point: str, asked: Iterable[tuple[str, iam.Request]]) -> Iterator[tuple[str, iam.Request]]:
    """Put requests to a bucket as S3 puts those that come through an access point: about the bucket, and about the access point.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-policies.html
    """
    for name, request in asked:
        context = {
            **request.context,
            "s3:DataAccessPointArn": access_point,
            "s3:DataAccessPointAccount": account_of(access_point),
            "s3:AccessPointNetworkOrigin": iam.Some(("Internet", "VPC")),
        }
        yield name, replace(request, context=context)
        _, slash, key = request.resource.partition("/")
        resource = f"{access_point}/object/{key}" if slash else access_point
        owner = dict.fromkeys(("aws:ResourceAccount", "s3:ResourceAccount"), account_of(access_point))
        yield name, replace(request, resource=resource, context={**context, **owner})


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
