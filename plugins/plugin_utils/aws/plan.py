"""Holds what a run would change in AWS, and whether it may touch what is there; never decides what is wanted, and never sends a write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import account_of
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    MANAGED_BY,
    MOST_TAGS,
    PREFIX,
    Owner,
    is_ours,
    own_tags,
    pairs_of,
)

# What undoes a write that has no inverse of its own: a search for what was made.
DELETE_ASSOCIATION = "delete_pod_identity_association"


@dataclass
class Write:
    """One write: what is called, how it reads, and how it is taken back.

    Attributes:
        role_id: of the role that it deletes, which taking it back does not restore.
        hint: what mends it where AWS denies it.
    """

    service: str
    operation: str
    arguments: dict
    summary: str
    undo: tuple[str, dict] | None = None
    before: Any = None
    after: Any = None
    role_id: str = ""
    hint: str = ""

    def diff(self) -> dict:
        """Give the change in Ansible's form."""
        return {
            "before_header": self.summary,
            "after_header": self.summary,
            "before": _pretty(self.before),
            "after": _pretty(self.after),
        }


def _pretty(value: Any) -> str:
    return "" if value is None else json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"


@dataclass
class Plan:
    """What a run would do.

    Attributes:
        writes: in order.
        problems: what is in the way; with any, nothing is written.
        notices: what the operator should know.
        kept: what somebody else has set on what is ours, and stays.
        roles: the account's roles with their trust policies; None where the credentials may not list them.
        trust: the trust policies of the roles that the run looks at, by ARN, before it and after it.
    """

    writes: list[Write] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    roles: list[dict] | None = None
    trust: dict[str, tuple[Mapping, Mapping]] = field(default_factory=dict)


class Part:
    """A part of a cluster's AWS side, and whether a run may touch what is there of it.

    Args:
        account: where.
        options: of :func:`options.of`, with the issuer.
        plan: where writes, problems and notices go.
    """

    def __init__(self, account: Account, options: Mapping, plan: Plan) -> None:
        self.account, self.options, self.plan = account, options, plan
        self.present = options["state"] == "present"
        self.owner = Owner(options["cluster_account_id"], options["region"], options["cluster_name"])
        self.tag, self.tags = self.owner.tag, own_tags(self.owner, options["tags"])

    def compare(self) -> None:
        """Compare what is wanted with what is there, and note the writes; sends none.

        Raises:
            AwsError: a read fails.
        """
        raise NotImplementedError

    def write(self, *args: Any, **more: Any) -> None:
        """Note a write; the arguments are those of :class:`Write`."""
        self.plan.writes.append(Write(*args, **more))

    def here(self) -> list[Mapping]:
        """Give the ServiceAccounts that name a role of this account."""
        return [item for item in self.options["service_accounts"] if account_of(item["role_arn"]) == self.account.id]

    def may_touch(self, kind: str, name: str, tags: Mapping[str, str], more: str = "") -> bool:
        """Tell whether something that exists is ours, or may become so; note it where not, with ``more`` that explains it."""
        if is_ours(tags):
            return True
        if name in self.options["adopt"]:
            return True
        self.plan.problems.append(
            f"{kind} {name} exists and is not ours (no tag {MANAGED_BY[0]}={MANAGED_BY[1]}): "
            f"add {name!r} to irsa_adopt to take it over, or choose another name{more}"
        )
        return False

    def owned(self, name: str, tags: Mapping[str, str]) -> bool:
        """Tell whether something is ours by its tags, or by what the operator says."""
        return is_ours(tags) or name in self.options["adopt"]

    def note_untagged(self, kind: str, name: str, tag: str) -> None:
        """Note that something would go with this cluster, had nobody removed its tag."""
        self.plan.notices.append(
            f"{kind} {name} is of this cluster, but somebody removed its tag {tag}: kept. To have it removed, add {name!r} to irsa_adopt"
        )

    def note_tags(self, what: str, live: Mapping[str, str]) -> None:
        """Note the tags that the inventory does not set: whether one was in irsa_tags, or is of a tool of the account, is not known."""
        others = sorted(key for key in live if key not in self.tags and not key.startswith((PREFIX, "aws:")))
        self.plan.kept += [f"the tag {key} of {what}" for key in others]

    def missing_tags(self, live: Mapping[str, str]) -> dict[str, str]:
        """Give those of our tags that something has not, or with another value."""
        return {key: value for key, value in self.tags.items() if live.get(key) != value}

    def check_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Note it where something would have more tags than AWS takes, beside its own."""
        count = sum(not key.startswith("aws:") for key in tags)
        if count > MOST_TAGS:
            self.plan.problems.append(
                f"{name} would have {count} tags, and AWS takes {MOST_TAGS}: remove some, or take some out of irsa_tags"
            )


class Tagged(Part):
    """A part whose things IAM tags key by key."""

    def _tag(self, kind: str, key: dict, name: str, live: Mapping[str, str], missing: Mapping[str, str]) -> None:
        self.check_tags(name, {**live, **missing})
        changed = {tag: live[tag] for tag in missing if tag in live}
        new = [tag for tag in missing if tag not in live]
        undo = (f"untag_{kind}", {**key, "TagKeys": new})
        for part, back in ((new, undo), (changed, (f"tag_{kind}", {**key, "Tags": pairs_of(changed)}))):
            if part:
                arguments = {**key, "Tags": pairs_of({tag: missing[tag] for tag in part})}
                after = {**live, **{tag: missing[tag] for tag in part}}
                self.write("iam", f"tag_{kind}", arguments, f"tag {name}", back, dict(live), after)

    def _untag(self, kind: str, key: dict, name: str, live: Mapping[str, str], gone: set[str]) -> None:
        if not gone:
            return
        again = pairs_of({tag: live[tag] for tag in gone})
        after = {tag: value for tag, value in live.items() if tag not in gone}
        undo = (f"tag_{kind}", {**key, "Tags": again})
        arguments = {**key, "TagKeys": sorted(gone)}
        self.write("iam", f"untag_{kind}", arguments, f"untag {name}", undo, dict(live), after)
