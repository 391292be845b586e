"""What the alerts of a server say of it: names, times and thresholds; the templates hold the expressions, and nothing here asks Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.templates import as_json

KEY = "alert_thresholds"
# A server without pods is missed after as many seconds as two scrapes and their lookback need, whatever a node takes.
LEAST_ABSENT_SECONDS = 300
# Of names that Kubernetes makes.
LETTER, HASH, RANDOM, CUT = "[bcdfghjklmnpqrstvwxz2456789]", 10, 5, 58


def templates(settings: Settings) -> list[str]:
    """Give the template of the alerts, where they are on."""
    return ["prometheusrule.yaml.j2"] if workload.flag(settings, "alerts_enabled") else []


def compute(settings: Settings, platform: Mapping, server: Mapping, prefix: str) -> dict:
    """Compute what the alerts of one server place.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.
        server: what else is computed of it.
        prefix: what the names of its kind's alerts begin with.

    Returns:
        ``prefix``; ``runbooks``, the address of their page; label matchers of the server's own metrics (``job``), and of its
        Deployment and pods in those of kube-state-metrics (``deployment``, ``pods``); ``certificates``, the Secrets of its Ingress;
        ``least``, the thresholds; and in seconds how long it may be without pods (``absent_seconds``) and how long a pod may start
        once it has a node (``start_seconds``).
    """
    brought = settings.layers[0][1].get(KEY) or {}
    given = workload.dictionary(settings, KEY)
    name, namespace = str(server["name"]), str(platform["namespace"])
    place = f"namespace={as_json(namespace)}"
    tls = (server["ingress"].get("spec") or {}).get("tls") or []
    # A name of Kubernetes has only dots that mean something else in a regular expression.
    secrets = dict.fromkeys(item["secretName"].replace(".", r"\.") for item in tls if item.get("secretName"))
    down = server["down_seconds"]
    return {
        "prefix": prefix,
        "namespace": namespace,
        "runbooks": str(platform["runbook_url"]),
        # Two namespaces may have a Service of one name; who scrapes without prometheus-operator may have no such label.
        "job": f"job={as_json(server['service_name'])}, namespace=~{as_json(f'{namespace}|')}",
        "deployment": f"{place}, deployment={as_json(name)}",
        "pods": f"{place}, pod=~{as_json(pods(name))}",
        "certificates": "|".join(secrets),
        "least": {**brought, **{key: value for key, value in given.items() if value is not None}},
        "absent_seconds": max(LEAST_ABSENT_SECONDS, int(platform["node_provisioning_seconds"]) - down),
        "start_seconds": int(platform["image_pull_seconds"])
        + server["start_seconds"]
        + int(platform["deadline_margin_seconds"]),
    }


def pods(name: str) -> str:
    """Give the regular expression of the names of a Deployment's pods, which no Job's and no StatefulSet's pod has by chance.

    A ReplicaSet appends a hash of up to ten characters, and a pod five, all of which are of Kubernetes' own alphabet
    (k8s.io/apimachinery/pkg/util/rand); what stands before the five is cut at 58 characters (apiserver's storage/names).

    Args:
        name: of the Deployment.
    """
    if len(name) + len("-") + HASH + len("-") <= CUT:
        return f"{name}-{LETTER}{{1,{HASH}}}-{LETTER}{{{RANDOM}}}"
    return f"{name[:CUT]}(-{LETTER}*-?)?{LETTER}{{{RANDOM}}}"
