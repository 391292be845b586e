"""What stands in AWS for a cluster: names, trust policies, permission policies, buckets' settings; computed, nothing sent."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, where

# What the token of a pod is for; EKS's webhook asks for this audience in every partition.
AUDIENCE = "sts.amazonaws.com"
POD_IDENTITY = "pods.eks.amazonaws.com"
MANAGED_BY = ("managed-by", "modelyard")
SUFFIXES = {"aws-cn": "amazonaws.com.cn"}
BUCKET = re.compile(r"(?!xn--|sthree-)(?=.{3,63}$)[a-z0-9]([a-z0-9-]|\.(?!\.))*[a-z0-9]", re.ASCII)
KEY_ARN = re.compile(r"arn:(aws(?:-cn|-us-gov)?):kms:([a-z0-9-]+):\d{12}:key/[\w-]+", re.ASCII)
BOUNDARY = re.compile(r"arn:(aws(?:-cn|-us-gov)?):iam::(\d{12}|aws):policy/([!-.0-~]+/)*[\w+=,.@-]{1,128}", re.ASCII)
ISSUER = re.compile(r"https://[^\s?#]*[^\s?#/]")
_SID = re.compile(r"Modelyard\w*[0-9a-f]{8}", re.ASCII)
TLS_ONLY = "ModelyardTlsOnly"
PUBLIC_ACCESS_BLOCK = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)
NONCURRENT, MULTIPART = "modelyard-noncurrent-versions", "modelyard-multipart-uploads"
READ = ["s3:GetObject"]
# A large upload goes in parts, and one that fails takes its parts away.
WRITE = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:ListMultipartUploadParts", "s3:PutObject"]


# --- Names ------------------------------------------------------------------------------------------


def issuer_host(issuer: str) -> str:
    """Give an issuer as IAM writes it: without the scheme."""
    return issuer.removeprefix("https://")


def provider_arn(issuer: str, account: str, partition: str) -> str:
    """Name the IAM OIDC provider of an issuer in an account."""
    return f"arn:{partition}:iam::{account}:oidc-provider/{issuer_host(issuer)}"


def cluster_arn(name: str, region: str, account: str, partition: str) -> str:
    """Name an EKS cluster."""
    return f"arn:{partition}:eks:{region}:{account}:cluster/{name}"


def subject(namespace: str, service_account: str) -> str:
    """Name a ServiceAccount as its tokens do."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def account_of(arn: str) -> str:
    """Give the account in an ARN."""
    return arn.split(":")[4]


def partition_of(arn: str) -> str:
    """Give the partition in an ARN."""
    return arn.split(":")[1]


def role_name_of(arn: str) -> str:
    """Give the name in a role's ARN, without its path."""
    return arn.rpartition("/")[2]


def role_path_of(arn: str) -> str:
    """Give the path in a role's ARN."""
    inside = arn.partition(":role")[2]
    return inside[: inside.rindex("/") + 1]


def sid(cluster_name: str, account: str, region: str) -> str:
    """Name a cluster's statement in a trust policy: readable, and different for every cluster."""
    digest = hashlib.sha256(f"{account}:{region}:{cluster_name}".encode()).hexdigest()[:8]
    return f"Modelyard{_camel(cluster_name)}{digest}"


def policy_name(cluster_name: str) -> str:
    """Name a cluster's inline policy in a role."""
    return f"modelyard-{cluster_name}"


def cluster_tag(cluster_name: str) -> str:
    """Name the tag that says for which cluster something stands; what several share has one of each."""
    return f"modelyard/cluster/{cluster_name}"


def own_tags(cluster_name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Give the tags of what is ours."""
    return {
        **{str(key): str(value) for key, value in tags.items()},
        **dict([MANAGED_BY]),
        cluster_tag(cluster_name): "true",
    }


def is_ours(tags: Mapping[str, str]) -> bool:
    """Tell by its tags whether something is ours."""
    return tags.get(MANAGED_BY[0]) == MANAGED_BY[1]


def clusters_of(tags: Mapping[str, str]) -> set[str]:
    """Name the clusters that something stands for."""
    prefix = cluster_tag("")
    return {key.removeprefix(prefix) for key in tags if key.startswith(prefix)}


def _camel(text: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", text))


# --- Documents --------------------------------------------------------------------------------------


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


def merge_trust(live: Mapping | None, sid_: str, statement: Mapping | None) -> tuple[dict, list[dict]]:
    """Put a cluster's statement into a role's trust policy, or take it out.

    Args:
        live: the role's trust policy, or None.
        sid_: the name of the cluster's statement.
        statement: it, or None to take it out.

    Returns:
        the new policy, its statements sorted by name: ours and those of other clusters; and the statements that no cluster of
        this project made, which are not in it.
    """
    found = iam.listed((live or {}).get("Statement") or [])
    others = [dict(item) for item in found if _SID.fullmatch(str(item.get("Sid", ""))) and item["Sid"] != sid_]
    foreign = [dict(item) for item in found if not _SID.fullmatch(str(item.get("Sid", "")))]
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
        base = _camel(entry["bucket"])
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


def requests(entry: Mapping, account: str, partition: str) -> list[tuple[str, iam.Request]]:
    """List what a client does with the bucket of an access entry, each with its name in S3's API.

    The arguments are those of :func:`permissions`.
    """
    where_ = {"partition": partition, "account": entry.get("account_id") or account}
    bucket = entry["bucket"]
    found = [("HeadBucket", "", None)] if entry.get("head_bucket") else []
    for prefix in folders(entry) or [""]:
        found += [("ListObjectsV2", "", prefix), ("GetObject", f"{prefix}key", None)]
        if entry.get("write"):
            operations = ("PutObject", "DeleteObject", "AbortMultipartUpload", "ListParts")
            found += [(operation, f"{prefix}key", None) for operation in operations]
    asked = [(name, iam.s3(name, bucket, key, prefix=prefix, **where_)) for name, key, prefix in found]
    if entry.get("kms_key_arn"):
        statement = _decrypt("", entry)
        context = statement["Condition"]["StringEquals"]
        asked += [
            (action.partition(":")[2], iam.Request(action, entry["kms_key_arn"], context))
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


def encryption(kms_key_arn: str) -> dict:
    """Give a bucket's default encryption: S3's own keys, or a key of KMS."""
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key_arn} if kms_key_arn else {"SSEAlgorithm": "AES256"}
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(kms_key_arn)}]}


def same_encryption(live: Mapping | None, wanted: Mapping) -> bool:
    """Tell whether a bucket's encryption is the wanted one. AWS may add keys of its own; a bucket key is none of AES256's."""
    one, other = ((item or {"Rules": [{}]})["Rules"][0] for item in (live, wanted))
    default = other["ApplyServerSideEncryptionByDefault"]
    key = "KMSMasterKeyID" in default
    return one.get("ApplyServerSideEncryptionByDefault") == default and (not key or bool(one.get("BucketKeyEnabled")))


def merge_lifecycle(live: Iterable[Mapping], noncurrent_days: int, multipart_days: int) -> list[dict]:
    """Put our two rules into a bucket's lifecycle; those of others stay.

    Args:
        live: the rules that there are.
        noncurrent_days: days after which a version that is no longer the newest goes, and a lone delete marker.
        multipart_days: days after which the parts of an upload that never ended go.
    """
    ours = [
        {
            "ID": MULTIPART,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": multipart_days},
        },
        {
            "ID": NONCURRENT,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
            "NoncurrentVersionExpiration": {"NoncurrentDays": noncurrent_days},
        },
    ]
    return [*(dict(rule) for rule in live if rule.get("ID") not in (NONCURRENT, MULTIPART)), *ours]


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


# --- Inputs -----------------------------------------------------------------------------------------


def check(options: Mapping) -> list[str]:
    """Check the variables against each other, before anything is asked of AWS.

    Args:
        options: of the action ``modelyard.core.aws``.

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
        problems.add(f"{path}.bucket", entry["bucket"], "must be the name of a bucket, without s3://", where(entry))
    for prefix in entry.get("prefixes") or []:
        if re.search(r"[*?]|\$\{", str(prefix)) or not str(prefix).strip("/"):
            allowed = (
                "must be a folder such as models/, without wildcards and policy variables; none for the whole bucket"
            )
            problems.add(f"{path}.prefixes", prefix, allowed, where(entry))
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


def s3_location(url: str) -> tuple[str, str]:
    """Split ``s3://bucket/folder`` into both; two empty texts for what is not in AWS's S3 (a path, or an endpoint of one's own)."""
    match = re.fullmatch(r"s3://([^/:]+)(?:/(.*?))?/*", url)
    return (match[1], match[2] or "") if match else ("", "")
