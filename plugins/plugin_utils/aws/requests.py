"""Puts requests as AWS puts them to policies: which condition keys have which values, are absent, or can't be known; never asks AWS.

Sources, if none is named: IAM User Guide, "AWS global condition context keys" (the entry *Availability* of each key) and "IAM and AWS STS
condition context keys"; Service Authorization Reference, "Amazon S3" and "AWS KMS".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.context import PolicyError, Request, Some


def _now() -> dict[str, str]:
    now = datetime.now(UTC)
    return {"aws:CurrentTime": now.isoformat(timespec="seconds"), "aws:EpochTime": str(int(now.timestamp()))}


# --- Who becomes the role ---------------------------------------------------------------------------

# What no pod's request to STS has: it sets no tags (a ServiceAccount's token has no such claims), names no other session.
_NO_TAGS = ("aws:requesttag/*", "aws:tagkeys", "sts:transitivetagkeys")


def web_identity(
    provider_arn: str, claims: Mapping[str, Any], region: str | Some | None = None, account: str = ""
) -> Request:
    """Put the claims of an OIDC token as STS puts them to a role's trust policy (AssumeRoleWithWebIdentity).

    The request is not signed, so who asks is told by the token alone: keys that begin with ``aws:Principal`` are not known. Keys of other
    issuers are absent, and so is what the call has no parameter for (API Reference of STS).

    Args:
        provider_arn: the IAM OIDC provider of the token's issuer.
        claims: the token's claims; ``aud`` as a list of one is that one.
        region: where STS is asked.
        account: the role's.
    """
    host = provider_arn.partition("/")[2]
    context: dict[str, str | list[str] | Some] = {}
    for name in ("sub", "aud", "amr"):
        value = claims.get(name)
        if isinstance(value, (list, tuple)):
            value = value[0] if len(value) == 1 else [str(item) for item in value]
        if value is not None:
            context[f"{host}:{name}"] = value
    context |= {
        **_now(),
        "aws:FederatedProvider": provider_arn,
        "aws:SecureTransport": "true",
        "aws:PrincipalIsAWSService": Some(("false",), absent=True),
        "aws:ViaAWSService": Some(("false",), absent=True),
        "aws:UserAgent": Some(),
        "sts:RoleSessionName": Some(("??*",)),
        **_place(region, account),
    }
    others = ("*:sub", "*:aud", "*:amr", "*:azp", "*:oaud", f"{host.lower()}:*")
    service = (
        "aws:sourcearn",
        "aws:sourceaccount",
        "aws:sourceorgid",
        "aws:sourceorgpaths",
        "aws:principalservicename*",
    )
    never = (
        "aws:username",
        "aws:referer",
        "aws:calledvia*",
        "aws:sourceidentity",
        "sts:sourceidentity",
        "sts:externalid",
    )
    return Request(
        "sts:AssumeRoleWithWebIdentity",
        context=context,
        principal=("Federated", provider_arn),
        absent=(*_NO_TAGS, *others, *service, *never),
    )


POD_TAGS = ("kubernetes-pod-name", "kubernetes-pod-uid")


def pod_identity(
    cluster_arn: str, namespace: str, service_account: str, action: str = "sts:AssumeRole", tagged: bool = True
) -> Request:
    """Put what EKS Pod Identity puts to a role's trust policy: itself, the cluster that it asks for, and the session tags of the pod.

    Sources: EKS User Guide, "Grant Pods access to AWS resources based on tags", "Cross-service confused deputy prevention in Amazon EKS"
    (``aws:SourceArn`` is the cluster) and "How EKS Pod Identity works" (the session's name begins with ``eks-``).

    Args:
        cluster_arn: the EKS cluster's.
        namespace: of the ServiceAccount.
        service_account: its name.
        action: ``sts:AssumeRole``, or ``sts:TagSession``, which is asked where there are tags.
        tagged: whether the association lets EKS set session tags (``disableSessionTags``).
    """
    parts = cluster_arn.split(":")
    tags: dict[str, str | Some] = {
        "eks-cluster-arn": cluster_arn,
        "eks-cluster-name": cluster_arn.rpartition("/")[2],
        "kubernetes-namespace": namespace,
        "kubernetes-service-account": service_account,
        # Of the pod's name, all that is known is that it has one.
        **{name: Some(("?*",)) for name in POD_TAGS},
    }
    context: dict[str, str | list[str] | Some] = {
        **_now(),
        **({f"aws:RequestTag/{name}": value for name, value in tags.items()} if tagged else {}),
        **({"aws:TagKeys": list(tags), "sts:TransitiveTagKeys": list(tags)} if tagged else {}),
        "aws:SourceArn": cluster_arn,
        "aws:SourceAccount": parts[4],
        "aws:PrincipalIsAWSService": "true",
        "aws:PrincipalServiceName": "pods.eks.amazonaws.com",
        "aws:SecureTransport": "true",
        "aws:UserAgent": Some(),
        "sts:RoleSessionName": Some(("eks-*",)),
        **_place(parts[3], parts[4]),
    }
    never = ("*:sub", "*:aud", "aws:username", "aws:federatedprovider", "aws:referer", "sts:sourceidentity")
    return Request(action, context=context, principal=("Service", "pods.eks.amazonaws.com"), absent=(*_NO_TAGS, *never))


def _place(region: str | Some | None, account: str) -> dict[str, str | Some]:
    found: dict[str, str | Some] = {"aws:RequestedRegion": region} if region else {}
    return {**found, **({"aws:ResourceAccount": account} if account else {})}


@dataclass(frozen=True)
class Session:
    """A session of a role, as it asks S3.

    Attributes:
        context: the condition keys that tell who asks.
        absent: those that it has not, as in Request.
    """

    context: Mapping[str, str | Some]
    absent: tuple[str, ...]


def session(role: Mapping, assumed: Request) -> Session:
    """Tell who asks S3 once a pod has become a role.

    Session tags go before the role's own (EKS User Guide, "Grant Pods access to AWS resources based on tags"). The keys of services that
    run code for somebody (EC2, Lambda, Amazon Q) are those of their own roles.

    Args:
        role: as GetRole describes it: ``Arn``, ``RoleId``, ``Tags``.
        assumed: the request that made the session.
    """
    tags: dict[str, str | Some] = {pair["Key"].lower(): pair["Value"] for pair in role.get("Tags") or []}
    prefix = "aws:RequestTag/"
    tags |= {key[len(prefix) :].lower(): value for key, value in assumed.context.items() if key.startswith(prefix)}
    context: dict[str, str | Some] = {
        "aws:PrincipalArn": role["Arn"],
        "aws:PrincipalAccount": role["Arn"].split(":")[4],
        "aws:PrincipalType": "AssumedRole",
        "aws:PrincipalIsAWSService": "false",
        "aws:userid": Some((f"{role.get('RoleId') or '*'}:*",)),
        "aws:TokenIssueTime": Some(),
        # Nobody gave a second factor; whether the key is there then, AWS says of some sessions only.
        "aws:MultiFactorAuthPresent": Some(("false",), absent=True),
        **{f"aws:PrincipalTag/{name}": value for name, value in tags.items()},
    }
    federated = assumed.action == "sts:AssumeRoleWithWebIdentity"
    if federated:
        told = {key: value for key, value in assumed.context.items() if key.endswith((":sub", ":aud"))}
        context["aws:FederatedProvider"] = assumed.principal[1]
        # AWS carries the token's keys on into some sessions only.
        context |= {key: Some((value,), absent=True) for key, value in told.items() if isinstance(value, str)}
    absent = (
        "aws:username",
        "aws:principalservicename*",
        "aws:principaltag/*",
        "aws:multifactorauthage",
        "aws:ec2instancesource*",
        "ec2:sourceinstancearn",
        "ec2:roledelivery",
        "lambda:sourcefunctionarn",
        "aws:chatbotsourcearn",
        "aws:assumedroot",
        *(("aws:sourceidentity",) if federated else ("aws:federatedprovider",)),
    )
    return Session(context, absent)


# --- What the role then asks for --------------------------------------------------------------------

# S3's operations, and the action that each is authorized by (Service Authorization Reference, Amazon S3).
_S3_OBJECT = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "DeleteObject": "s3:DeleteObject",
}
_S3_BUCKET = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetBucketLocation": "s3:GetBucketLocation",
}
# Of a request that a program makes directly: no browser, no service in between, no tags of its own.
_DIRECT = (
    "aws:referer",
    "aws:calledvia*",
    "aws:sourcearn",
    "aws:sourceaccount",
    "aws:sourceorgid",
    "aws:sourceorgpaths",
    "aws:requesttag/*",
    "aws:tagkeys",
    "sts:externalid",
    "sts:rolesessionname",
    "kms:*",
)


def s3(
    operation: str,
    bucket: str,
    key: str = "",
    *,
    partition: str = "aws",
    account: str = "",
    prefix: str | None = None,
    tls: bool = True,
    region: str = "",
    who: Session | None = None,
) -> Request:
    """Put an S3 operation as S3 puts it to the policies.

    The request is signed in its headers (``s3:authType``), with version 4 of the signature, by the bucket's name and not by an access
    point's, and asks for an object's newest version; S3 takes TLS from 1.2 on (S3 User Guide, "Amazon S3 policy condition keys" and
    "Infrastructure security").

    Args:
        operation: name in S3's API, e.g. ``HeadBucket``.
        bucket: its name.
        key: the object, for operations on one.
        partition: of the bucket's ARN.
        account: the account that owns the bucket.
        prefix: the ``prefix`` of a list; None for a list without one, and for HeadBucket, which has none.
        tls: whether the connection is encrypted.
        region: the bucket's.
        who: who asks; None where that is not known.

    Raises:
        PolicyError: the operation is not one of those known here.
    """
    arn = f"arn:{partition}:s3:::{bucket}"
    context: dict[str, str | Some] = {
        **_now(),
        **(who.context if who else {}),
        **_place(region, account),
        **({"s3:ResourceAccount": account} if account else {}),
        "aws:SecureTransport": str(tls).lower(),
        "aws:ViaAWSService": "false",
        "aws:UserAgent": Some(),
        "s3:authType": "REST-HEADER",
        "s3:signatureversion": "AWS4-HMAC-SHA256",
        **({"s3:TlsVersion": Some(("1.2", "1.3"))} if tls else {}),
    }
    absent = (
        *_DIRECT,
        *(who.absent if who else ()),
        "s3:versionid",
        "s3:dataaccesspoint*",
        "s3:accesspointnetworkorigin",
    )
    if operation in _S3_OBJECT:
        return Request(_S3_OBJECT[operation], f"{arn}/{key}", context, absent=(*absent, "s3:prefix", "s3:delimiter"))
    if operation not in _S3_BUCKET:
        raise PolicyError(f"unknown S3 operation {operation!r}")
    if prefix is not None and operation != "HeadBucket":
        context["s3:prefix"] = prefix
    none = ("s3:prefix",) if operation.startswith("List") else ("s3:prefix", "s3:delimiter", "s3:max-keys")
    return Request(_S3_BUCKET[operation], arn, context, absent=(*absent, *none))


def kms(action: str, key_arn: str, service: str, objects: tuple[str, ...] = (), who: Session | None = None) -> Request:
    """Put what S3 asks of KMS on behalf of who reads or writes an encrypted object.

    Sources: S3 User Guide, "Using server-side encryption with AWS KMS keys": the encryption context ``aws:s3:arn`` is the object's ARN,
    with an S3 Bucket Key the bucket's. IAM User Guide, "Forward access sessions".

    Args:
        action: e.g. ``kms:Decrypt``.
        key_arn: the key.
        service: the host of S3 by which it is asked.
        objects: what the encryption context may say, with wildcards.
        who: who asks S3; None where that is not known.
    """
    region, account = key_arn.split(":")[3:5]
    caller = (who.context if who else {}).get("aws:PrincipalAccount")
    context: dict[str, str | list[str] | Some] = {
        **_now(),
        **(who.context if who else {}),
        **_place(region, account),
        "aws:SecureTransport": "true",
        "aws:ViaAWSService": "true",
        "aws:UserAgent": Some(),
        "kms:ViaService": service,
        "kms:EncryptionContext:aws:s3:arn": Some(objects or ("*",)),
        "kms:EncryptionContextKeys": ["aws:s3:arn"],
        "kms:EncryptionAlgorithm": Some(("SYMMETRIC_DEFAULT",), absent=True),
        **({"kms:CallerAccount": caller} if caller else {}),
    }
    absent = ("s3:*", "aws:referer", "aws:sourcearn", "aws:sourceaccount", "aws:requesttag/*", "aws:tagkeys")
    return Request(action, key_arn, context, absent=(*absent, "kms:encryptioncontext:*", *(who.absent if who else ())))
