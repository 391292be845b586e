"""One ServiceAccount's chain to S3: what is known of each link, and how that is shown; never asks AWS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, AwsError

# What stands between a pod and its objects, and is not looked at. A provider's thumbprints count only where no public authority signed the
# issuer's certificate (IAM API Reference, UpdateOpenIDConnectProviderThumbprint), which is so of no issuer of EKS's.
NOT_JUDGED = (
    "Not judged: service control policies and resource control policies, session policies, policies of VPC endpoints and of access points, grants of KMS keys, "
    "objects with another key than their bucket's, thumbprints of the provider, the network to STS (in the pod's region with "
    "AWS_STS_REGIONAL_ENDPOINTS=regional), S3 and KMS, the SDKs in the images (EKS Pod Identity needs recent ones)."
)


class Broken(Exception):
    """A link is broken; the text says how."""


class Unjudged(Exception):
    """Whether a link holds can't be told; the text says what would have to be known."""


@dataclass
class Chain:
    """One ServiceAccount's chain.

    Attributes:
        service_account: ``NAMESPACE/NAME``.
        role: the role's ARN by the inventory.
        links: each link that was reached, and ``ok`` or what is wrong. The first broken one ends the chain; one that can't be judged does not.
        doubts: the links that can't be judged.
        notices: what does not break it, and should be known.
    """

    service_account: str
    role: str
    links: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def broken(self) -> str:
        """The broken link's name, or an empty text."""
        return next((name for name, state in self.links.items() if state != "ok" and name not in self.doubts), "")

    @property
    def unjudged(self) -> str:
        """The name of the first link that can't be judged, or an empty text."""
        return next(iter(self.doubts), "")

    @property
    def state(self) -> str:
        """``closed``, ``open``, or ``unknown`` where nothing is known to be broken and a link can't be judged."""
        return "open" if self.broken else "unknown" if self.doubts else "closed"

    def follow(self, name: str, look: Callable[[], None]) -> bool:
        """Look at a link.

        Args:
            name: the link's.
            look: returns where the link holds, else raises Broken, Unjudged, or what AWS denies.

        Returns:
            whether the next link is to be looked at.

        Raises:
            AwsError: AWS can't be asked. What it does not let this credential read can't be judged.
        """
        try:
            look()
        except Broken as error:
            self.links[name] = str(error)
            return False
        except (Unjudged, iam.PolicyError, AwsError) as error:
            if isinstance(error, AwsError) and error.code not in DENIED:
                raise
            self.links[name] = f"can't be judged: {error}"
            self.doubts.append(name)
            return True
        self.links[name] = "ok"
        return True

    def data(self) -> dict:
        """Give it as plain data."""
        worst = self.broken or self.unjudged
        return {
            "service_account": self.service_account,
            "role": self.role,
            "closed": self.state == "closed",
            "broken": self.broken,
            "unjudged": self.unjudged,
            "reason": self.links[worst] if worst else "",
            "links": dict(self.links),
            "notices": list(self.notices),
        }


def outcome(chains: list[Chain], strict: bool) -> dict:
    """Give what a play makes of the chains.

    What can't be judged is a warning and no failure, or whoever has a condition on a VPC endpoint could only ever switch strictness off.

    Args:
        chains: all of them.
        strict: whether a broken one fails the play.

    Returns:
        ``failed``, ``chains`` as data, and ``warnings``, each once: chains that share a role share its notices.
    """
    doubts = [f"{chain.service_account}: {name}: {chain.links[name]}" for chain in chains for name in chain.doubts]
    notices = [notice for chain in chains for notice in chain.notices]
    return {
        "failed": strict and any(chain.broken for chain in chains),
        "chains": [chain.data() for chain in chains],
        "warnings": list(dict.fromkeys([*doubts, *notices])),
    }


def table(chains: list[Chain], links: tuple[str, ...]) -> list[str]:
    """Lay the chains out: a row for each, a column for each link, and below what is broken and what can't be judged."""
    rows = [["SERVICE ACCOUNT", "ROLE", *(name.upper() for name in links), "CHAIN"]]
    for chain in chains:
        states = [_cell(chain, name) for name in links]
        rows.append([chain.service_account, names.role_name_of(chain.role), *states, chain.state])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    wrong = [
        f"{chain.service_account}: {name}: {state}"
        for chain in chains
        for name, state in chain.links.items()
        if state != "ok"
    ]
    return [*lines, *(["", *wrong] if wrong else [])]


def _cell(chain: Chain, name: str) -> str:
    if name not in chain.links:
        return "-"
    return "ok" if chain.links[name] == "ok" else "UNKNOWN" if name in chain.doubts else "BROKEN"
