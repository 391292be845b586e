"""What a run would do to objects, in words: one change, and the plan of all. It knows no cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import difference, hiding
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import describe

# A line of more characters has its details below it.
WIDTH = 76

INSTALL_ORDER = [
    "Namespace", "AppProject", "ServiceAccount", "Role", "RoleBinding", "Secret", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy",
    "Service", "PodDisruptionBudget", "Deployment",
]  # fmt: skip


@dataclass
class Change:
    """What would happen to one object."""

    action: str
    item: dict
    before: dict | None = None
    after: dict | None = None
    takeover: bool = False
    # Patterns of managers whose fields the run takes over before it applies.
    adoptable: list[str] = field(default_factory=list)
    # Of an Application that goes: whether Argo CD removes what it deployed.
    cascade: bool | None = None
    # What else an operator should know of it, a line each.
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line: ``update Deployment ml-models/vllm: spec.replicas 2 -> 1; ...``."""
        told = self.told()
        return self._name() + (f": {told}" if told else "")

    def told(self) -> str:
        """What of it: ``spec.replicas 2 -> 1; ...``, without a credential."""
        return "; ".join([*map(difference.flat, self._details()), *self.notes])

    def lines(self) -> list[str]:
        """The same for people: a single short detail beside the object, several below it, one a line."""
        below = [*(line for lines in self._details() for line in lines), *self.notes]
        together = self.summary()
        if not below or (len(below) == 1 and len(together) <= WIDTH):
            return [together]
        return [f"{self._name()}:", *(f"  {line}" for line in below)]

    def _name(self) -> str:
        text = f"{self.action} {describe(self.item)}"
        if self.cascade is not None:
            text += ", and Argo CD removes what it deployed" if self.cascade else "; what it deployed stays"
        return text

    def _details(self) -> list[list[str]]:
        if self.action == "create":
            return [[text]] if (text := difference.essence(self.item)) else []
        if self.action != "update":
            return []
        return difference.hidden(shown(self.before), shown(self.after)) or [["ownership of fields"]]

    def diff(self) -> dict:
        """The change as Ansible's ``--diff`` prints it."""
        name = describe(self.item)
        return {"before_header": name, "after_header": name, "before": _text(self.before), "after": _text(self.after)}


@dataclass
class Plan:
    """All that a run would do, and what the operator should know about it."""

    namespaces: list[dict] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    prune: list[Change] = field(default_factory=list)
    release: list[Change] = field(default_factory=list)
    missing: list[dict] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    kinds: list[dict] = field(default_factory=list)


def shown(item: dict | None) -> dict:
    """An object without what only the API server writes (and without a Secret's values)."""
    if not item:
        return {}
    kept = {key: value for key, value in item.items() if key not in ("status", "metadata")}
    if item["kind"] == "Secret":
        kept = {
            key: dict.fromkeys(value, "(hidden)") if key in ("data", "stringData") else value
            for key, value in kept.items()
        }
    hidden = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
    kept["metadata"] = {key: value for key, value in item["metadata"].items() if key not in hidden}
    return kept


def _text(item: dict | None) -> str:
    return yaml.safe_dump(hiding.hide(shown(item)), sort_keys=True) if item else ""


def install_rank(item: dict) -> int:
    """Place of a kind in the install order; custom resources come last."""
    return INSTALL_ORDER.index(item["kind"]) if item["kind"] in INSTALL_ORDER else len(INSTALL_ORDER)
