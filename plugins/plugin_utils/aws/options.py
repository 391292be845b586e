"""Picks from a rendering what the AWS side of a cluster is to be; never asks AWS."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import account_of


def of(rendered: Mapping) -> dict:
    """Give the options of a ``Planner`` and of a ``Reporter``.

    Args:
        rendered: the structure of ``servers.render``.

    Returns:
        what to make (``state``, ``service_accounts`` each with its ``access``, the ``variable`` that sets it,
        the names of its ``containers`` that need the role, and the ``region`` that they ask in, ``role_arns``, ``buckets``),
        where (``profile``, ``profiles``, ``account_id``, ``cluster_account_id``, ``partition``, ``region``, ``eks_cluster_name``, ``oidc_issuer``, ``api_server``, ``namespace``), and how
        (``pod_identity``, ``permissions_boundary``, ``max_session_seconds``, ``tags``, ``adopt``, ``prune``); ``strict`` is the report's.
    """
    cluster, settings = rendered["cluster"], rendered["settings"]["irsa"]
    profiles = settings["aws_profiles"]
    return {
        "state": settings["state"],
        "profile": profiles.get(str(settings["account_id"])) or settings["aws_profile"],
        "profiles": profiles,
        "cluster_name": cluster["name"],
        "cluster_account_id": str(cluster["account_id"]),
        "account_id": str(settings["account_id"]),
        "partition": cluster["partition"],
        "region": cluster["region"],
        "api_server": cluster["api_server"],
        "namespace": cluster["namespace"],
        "eks_cluster_name": settings["eks_cluster_name"],
        "oidc_issuer": settings["oidc_issuer"],
        "pod_identity": cluster["pod_identity"],
        "service_accounts": [
            {**part["account"], **_pod(part["objects"], cluster["region"])}
            for part in rendered["parts"]
            if part["enabled"] and part["account"]
        ],
        "role_arns": rendered["role_arns"],
        "buckets": settings["buckets"],
        "permissions_boundary": settings["permissions_boundary"],
        "max_session_seconds": settings["max_session_seconds"],
        "tags": settings["tags"],
        "adopt": settings["adopt"],
        "prune": settings["prune"],
        "strict": settings["report_strict"],
    }


def with_accounts(options: Mapping) -> dict:
    """Say of each access entry whose account its bucket is: the entry's own word, that of ``irsa_buckets``, else the role's.

    Args:
        options: of :func:`of`.

    Returns:
        the options, with ``account_id`` in every access entry.
    """
    return {
        **options,
        "service_accounts": [
            {**item, "access": [_with_account(entry, item["role_arn"], options) for entry in item["access"]]}
            for item in options["service_accounts"]
        ],
    }


def _with_account(entry: Mapping, role_arn: str, options: Mapping) -> dict:
    account = entry.get("account_id")
    if not account and entry["bucket"] in options["buckets"]:
        account = bucket_account(entry["bucket"], options)
    return {**entry, "account_id": str(account or account_of(role_arn))}


def bucket_account(name: str, options: Mapping) -> str:
    """Give the account of a bucket of ``irsa_buckets``."""
    return str((options["buckets"][name] or {}).get("account_id") or options["cluster_account_id"])


def _pod(objects: list[Mapping], region: str) -> dict:
    """Give which containers of a Deployment need the role (those that load, and the server: not what stands beside it), and their region."""
    found: dict = {"containers": [], "region": region}
    for spec in (item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"):
        server = spec["containers"][0]
        found["containers"] = [container["name"] for container in [*(spec.get("initContainers") or []), server]]
        given = {entry["name"]: entry.get("value") for entry in server.get("env") or []}
        found["region"] = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or region
    return found
