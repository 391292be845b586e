"""What is known of a request to AWS: its action, its resource, and which condition keys have which values; never asks AWS."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


class PolicyError(ValueError):
    """A policy, or a request, that can't be evaluated; the text says what is wrong with it."""


@dataclass(frozen=True)
class Some:
    """A condition key's value of which not all is known.

    Attributes:
        forms: one of these it has; ``*`` and ``?`` stand for what is not known.
        absent: or the request has the key not at all.
    """

    forms: tuple[str, ...] = ("*",)
    absent: bool = False


@dataclass(frozen=True)
class Request:
    """What is asked of AWS.

    Attributes:
        action: e.g. ``s3:GetObject``; its case does not matter.
        resource: the ARN; empty for a trust policy, where the role itself is the resource.
        context: condition keys and their values, a text or a list of texts for a key with several. Keys' case does not matter.
        principal: kind and name of who asks, e.g. ``("Federated", "arn:aws:iam::123456789012:oidc-provider/...")``; None where
            the policy is attached to who asks.
        absent: keys that the request has not, in lower case, with wildcards; what neither this nor ``context`` names may have any
            value or be absent. By default ``context`` is all there is.
    """

    action: str
    resource: str = ""
    context: Mapping[str, str | Sequence[str] | Some] = field(default_factory=dict)
    principal: tuple[str, str] | None = None
    absent: tuple[str, ...] = ("*",)

    def values(self, key: str) -> list[str] | Some | None:
        """Give the values of a condition key, or None when the request has it not."""
        for name, value in self.context.items():
            if name.lower() == key.lower():
                return (
                    [value] if isinstance(value, str) else value if isinstance(value, Some) else list(map(str, value))
                )
        gone = any(fnmatch.fnmatchcase(key.lower(), pattern) for pattern in self.absent)
        return None if gone else Some(absent=True)

    def cases(self, key: str) -> list[Request]:
        """Tell apart what may be so of a key that is not known: a request without it, and one with each form that it may have."""
        value = self.values(key)
        if not isinstance(value, Some):
            return [self]
        rest = {name: other for name, other in self.context.items() if name.lower() != key.lower()}
        found = [
            replace(self, context={**rest, key: Some((form,)) if {"*", "?"} & {*form} else form})
            for form in value.forms
        ]
        return [*found, *([replace(self, context=rest, absent=(*self.absent, key.lower()))] if value.absent else [])]
