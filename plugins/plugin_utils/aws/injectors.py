"""Judges whether what gives pods their credentials is there: EKS's webhook, and the agent of EKS Pod Identity; never reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import AGENT, SYSTEM, Observed, Unread

WEBHOOK = "pod-identity-webhook"
# The webhook's name in EKS; whoever runs it himself calls it pod-identity-webhook.DOMAIN.
EKS_WEBHOOK = "iam-for-pods.amazonaws.com"
# EKS User Guide, "Set up the Amazon EKS Pod Identity Agent": Auto Mode has it built in.
NO_AGENT = f"no DaemonSet {SYSTEM}/{AGENT} is there, which only nodes of EKS Auto Mode do without"


def judge_webhook(seen: Observed, namespace: str, pods: Iterable[Mapping]) -> str:
    """See that new pods are injected into, for either way to a role.

    Args:
        seen: what there is in the cluster.
        namespace: of the pods.
        pods: those that run; their labels are held against the webhook's.

    Returns:
        what is not known of it, or an empty text.

    Raises:
        Broken: there is no webhook for such pods.
    """
    if isinstance(seen.webhooks, Unread):
        return f"whether a webhook injects credentials into new pods is not known: {seen.webhooks.why}"
    found = [hook for configuration in seen.webhooks for hook in _hooks(configuration)]
    if not found:
        raise Broken(
            f"no MutatingWebhookConfiguration {WEBHOOK} for new pods is there, so they get no credentials: EKS makes it with the "
            "cluster; create it again"
        )
    labels = seen.namespaces.get(namespace) or {}
    if isinstance(labels, Unread):
        if all(hook.get("namespaceSelector") for hook in found):
            return f"whether the webhook {found[0]['name']} picks the namespace {namespace} is not known: {labels.why}"
        labels = {}
    here = [hook for hook in found if _selects(hook.get("namespaceSelector"), labels)]
    if not here:
        raise Broken(f"the webhook {found[0]['name']} leaves out the namespace {namespace} by its namespaceSelector")
    for pod in pods:
        metadata = pod["metadata"]
        if not any(_selects(hook.get("objectSelector"), metadata.get("labels") or {}) for hook in here):
            raise Broken(f"the webhook {here[0]['name']} leaves out the pod {metadata['name']} by its objectSelector")
    return ""


def _hooks(configuration: Mapping) -> list[Mapping]:
    """Give the webhooks of a configuration that inject credentials into new pods."""
    ours = WEBHOOK in configuration["metadata"]["name"]
    return [
        hook
        for hook in configuration.get("webhooks") or []
        if (ours or hook["name"] == EKS_WEBHOOK or WEBHOOK in hook["name"])
        and any(
            {"CREATE", "*"} & set(rule.get("operations") or [])
            and {"", "*"} & set(rule.get("apiGroups") or [])
            and {"pods", "*", "*/*"} & set(rule.get("resources") or [])
            for rule in hook.get("rules") or []
        )
    ]


def _selects(selector: Mapping | None, labels: Mapping[str, str]) -> bool:
    selector = selector or {}
    tests = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, _values: key in labels,
        "DoesNotExist": lambda key, _values: key not in labels,
    }
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        tests[entry["operator"]](entry["key"], entry.get("values") or [])
        for entry in selector.get("matchExpressions") or []
    )


def judge_agent(seen: Observed, pod: Mapping) -> None:
    """See that the agent answers on a pod's node.

    Raises:
        Broken: it does not.
        Unjudged: that may not be read.
    """
    node = pod["spec"].get("nodeName")
    if not node:
        return
    if isinstance(seen.agents, Unread):
        raise Unjudged(f"whether the agent runs on its node {node} is not known: {seen.agents.why}")
    agents = [agent for agent in seen.agents or [] if agent["spec"].get("nodeName") == node]
    if any(_is_ready(agent) for agent in agents):
        return
    if isinstance(seen.auto_nodes, Unread):
        raise Unjudged(
            f"no agent is ready on its node {node}, and whether that is one of EKS Auto Mode is not known: {seen.auto_nodes.why}"
        )
    if node in seen.auto_nodes:
        return
    if seen.agents is None:
        raise Broken(f"{NO_AGENT}: install the add-on {AGENT}")
    state = "is not ready" if agents else "does not run"
    raise Broken(f"the agent {state} on its node {node}: kubectl -n {SYSTEM} get pods -o wide")


def _is_ready(pod: Mapping) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
