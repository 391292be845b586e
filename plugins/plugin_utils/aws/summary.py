"""Closes a run on AWS: each thing of the cluster, and what became of it; never asks AWS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import table
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import account_of

ASSOCIATION, BUCKET, PROVIDER, ROLE = "association", "bucket", "OIDC provider", "role"
_SUBJECT = re.compile(rf"({BUCKET}|{PROVIDER}|{ROLE}|Pod Identity association of) (\S+)")


def closing(options: Mapping, account: str, changes: Iterable[str], check: bool, width: int = 0) -> list[str]:
    """Lay out what there is of a cluster in an account, and what became of it.

    Args:
        options: of :func:`options.of`.
        account: the account's id.
        changes: the summaries of the writes.
        check: nothing was written.
        width: characters that a line may have; 0 for any number.
    """
    made, changed, gone = (f"to be {word}" if check else word for word in ("created", "changed", "deleted"))
    found = dict.fromkeys(_wanted(options, account), "as it was") if options["state"] == "present" else {}
    for summary in changes:
        *_, (kind, name) = _SUBJECT.findall(summary) or [("", summary)]
        subject = _subject(kind, name)
        if summary.startswith(f"create {kind}"):
            found[subject] = made
        elif summary.startswith(f"delete {kind}"):
            found[subject] = gone
        elif found.get(subject) not in (made, gone):
            found[subject] = changed
    rows = [(kind, name, state) for (kind, name), state in sorted(found.items())]
    return table.columns(("kind", "name", "state"), rows, width) if rows else []


def _wanted(options: Mapping, account: str) -> Iterable[tuple[str, str]]:
    accounts = [item for item in options["service_accounts"] if account_of(item["role_arn"]) == account]
    for name in options["buckets"]:
        yield _subject(BUCKET, name)
    for item in accounts:
        yield _subject(ROLE, item["role_arn"])
        if options["pod_identity"]:
            yield _subject(ASSOCIATION, f"{item['namespace']}/{item['name']}")
    if accounts and options["oidc_issuer"] and not options["pod_identity"]:
        yield _subject(PROVIDER, options["oidc_issuer"])


def _subject(kind: str, name: str) -> tuple[str, str]:
    name = name.rstrip(":")
    if kind == ROLE:
        return kind, name.rpartition("/")[2]
    if kind == PROVIDER:
        # All of EKS begin alike.
        return kind, name.removeprefix("https://").rpartition("oidc-provider/")[2].rpartition("/id/")[2]
    return (kind if kind in (BUCKET, "") else ASSOCIATION), name
