"""What the NetworkPolicies allow, according to an evaluator (cyclonus): each flow of network_flows.yml in each variant.

The local clusters store NetworkPolicies but do not enforce them, so their effect is tested here.
"""

import copy
import ipaddress
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLE = yaml.safe_load((ROOT / "tests" / "network_flows.yml").read_text())
VARIANTS = TABLE["variants"]
SERVERS = {"vllm", "judge-vllm", "triton-inference", "triton-inference-gpu", "mlserver"}
NETWORKS = TABLE["networks"]
BASE = {
    "vllm_judge_variant": "judge",
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
}


@pytest.fixture(scope="module")
def policies(render) -> dict[str, list[dict]]:
    """The rendered policies of each variant."""
    cases = {name.replace(" ", "-"): {**BASE, **variant["variables"]} for name, variant in VARIANTS.items()}
    cases["private"]["vllm_judge_network_policy_https_cidrs"] = list(NETWORKS)
    rendered = render(cases, ("triton", "vllm", "vllm_judge", "mlserver"))
    return {
        name: [item for item in rendered[name.replace(" ", "-")]["objects"] if item["kind"] == "NetworkPolicy"]
        for name in VARIANTS
    }


@pytest.fixture(scope="module")
def allowed(tmp_path_factory):
    """Ask the evaluator: allowed(policies, [(from, to, port)...]) gives a verdict for each flow."""
    # Built when it is asked for the first time, which takes minutes.
    found = subprocess.run([ROOT / "controlplane/cluster", "cyclonus"], stdout=subprocess.PIPE, text=True, check=True)
    folder = tmp_path_factory.mktemp("cyclonus")

    def allowed_(policies: list[dict], flows: list[tuple]) -> list[bool]:
        listed = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": policies}
        (folder / "policies.json").write_text(json.dumps(listed))
        (folder / "traffic.json").write_text(json.dumps([traffic(*flow) for flow in flows]))
        command = [found.stdout.strip(), "analyze", "--mode", "query-traffic"]
        command += ["--policy-path", folder / "policies.json", "--traffic-path", folder / "traffic.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        verdicts = re.findall(r"^\| IS ALLOWED\? +\| +(TRUE|FALSE) +", done.stdout, re.MULTILINE)
        assert len(verdicts) == len(flows), done.stdout
        return [verdict == "TRUE" for verdict in verdicts]

    return allowed_


def traffic(source: str, target: str, port: str) -> dict:
    """Write a flow as the evaluator reads it."""
    number, protocol = port.split("/")
    return {"Source": peer(source), "Destination": peer(target), "ResolvedPort": int(number), "Protocol": protocol}


def peer(name: str) -> dict:
    endpoint = TABLE["endpoints"].get(name) or {"ip": name}
    if "ip" in endpoint:
        return {"IP": endpoint["ip"]}
    inside = {
        "Namespace": endpoint["namespace"],
        # The label that every namespace has.
        "NamespaceLabels": {"kubernetes.io/metadata.name": endpoint["namespace"]},
        "PodLabels": endpoint["labels"],
    }
    # In no network that a variant names: of a pod, a NetworkPolicy goes by the labels.
    return {"IP": f"100.64.0.{sorted(TABLE['endpoints']).index(name)}", "Internal": inside}


def expected(variant: str) -> dict[tuple, bool]:
    """What a variant's table says of each flow."""
    rows = [*TABLE["flows"], *VARIANTS[variant]["flows"]]
    return {tuple(flow): verdict == "allowed" for *flow, verdict in rows}


def surprises(allowed, policies, variant) -> list[tuple]:
    """The flows whose verdict is not the table's."""
    table = expected(variant)
    return [flow for flow, verdict in zip(table, allowed(policies, list(table)), strict=True) if verdict != table[flow]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_table_is_sound(variant):
    rows = [tuple(row[:3]) for row in TABLE["flows"]]
    assert len(rows) == len(set(rows)), "a flow is there twice"
    for *_, verdict in [*TABLE["flows"], *VARIANTS[variant]["flows"]]:
        assert verdict in ("allowed", "refused")
    default = expected("defaults")
    for row in VARIANTS[variant]["flows"]:
        assert default[tuple(row[:3])] != (row[3] == "allowed"), f"{row} changes nothing"


@pytest.mark.parametrize("variant", VARIANTS)
def test_flows(policies, allowed, variant):
    assert {item["metadata"]["name"] for item in policies["defaults"]} == SERVERS
    assert surprises(allowed, policies[variant], variant) == []


# --- The instance's metadata -------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_no_network_reaches_the_metadata(policies, allowed, network):
    (policy,) = [item for item in policies["private"] if item["metadata"]["name"] == "judge-vllm"]
    (https,) = [rule for rule in policy["spec"]["egress"] if rule["ports"] == [{"protocol": "TCP", "port": 443}]]
    blocks = [peer["ipBlock"] for peer in https["to"] if peer["ipBlock"]["cidr"] == network]
    assert blocks == [{"cidr": network, **({"except": NETWORKS[network]} if NETWORKS[network] else {})}]
    alone = {**policy, "spec": {**policy["spec"], "egress": [{**https, "to": [{"ipBlock": blocks[0]}]}]}}
    # Its ends are within reach, and so is what lies beside the metadata.
    parsed = ipaddress.ip_network(network)
    hidden = [ipaddress.ip_network(address)[0] for address in NETWORKS[network]]
    near = {str(a) for b in hidden for a in (b - 1, b + 1) if a in parsed}
    reached = ({str(parsed[0]), str(parsed[-1])} | near) - {str(address) for address in hidden}
    verdicts = allowed([alone], [("judge", address, "443/TCP") for address in sorted(reached)])
    assert (network, reached and all(verdicts)) == (network, True)
    verdicts = allowed([alone], [("judge", name, "443/TCP") for name in ("metadata", "metadata-v6")])
    assert verdicts == [False, False]


# --- The table notices -------------------------------------------------------------------------------


INDISPENSABLE = {"policyTypes", "matchLabels", "protocol", "cidr", "podSelector", "namespaceSelector", "ipBlock"}


def drops(policies: list[dict]):
    """Each policy, policy type, rule, peer, port, selector and exception left out once: (what, the policies without it)."""
    for index, policy in enumerate(policies):
        name = policy["metadata"]["name"]
        yield f"{name}", policies[:index] + policies[index + 1 :]
        for path in paths(policy["spec"]):
            changed = copy.deepcopy(policies)
            inner = changed[index]["spec"]
            for key in path[:-1]:
                inner = inner[key]
            del inner[path[-1]]
            yield f"{name} {'.'.join(map(str, path))}", changed


def paths(value, path=()):
    """The paths of everything below a value that could be left out and leave a valid policy that means something else."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if key == "policyTypes" and len(inner) == 1:
            continue
        # The protocol that a port has by default is TCP; a policy without types, a peer or a block without its selector or
        # network is invalid.
        if key not in INDISPENSABLE:
            yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from paths(inner, (*path, key))


def changes(policies: list[dict]):
    """Each port moved, each protocol, network, namespace and label another: (what, the policies with it)."""
    others = {
        "port": lambda port: port + 1,
        "protocol": {"TCP": "UDP", "UDP": "TCP"}.get,
        "cidr": lambda _: "192.0.2.0/24",
        "app": "{}-other".format,
        "workflow": "{}-other".format,
        "kubernetes.io/metadata.name": "{}-other".format,
    }
    for index, policy in enumerate(policies):
        for path in leaves(policy["spec"]):
            changed = copy.deepcopy(policies)
            inner = changed[index]["spec"]
            for key in path[:-1]:
                inner = inner[key]
            if path[-1] in others:
                inner[path[-1]] = others[path[-1]](inner[path[-1]])
                yield f"{policy['metadata']['name']} {'.'.join(map(str, path))}", changed


def leaves(value, path=()):
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, (dict, list)):
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key)


def additions(policies: list[dict]):
    """A rule too many: (what, the policies with it)."""
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ml-models"}}}
    rules = {
        "egress": [
            {},
            {"to": [{"namespaceSelector": {}}]},
            {"to": [here], "ports": [{"protocol": "TCP", "port": 8000}]},
            {"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"protocol": "TCP", "port": 80}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"protocol": "TCP", "port": 443, "endPort": 444}]},
        ],
        "ingress": [
            {},
            {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
            {"from": [here]},
            {"ports": [{"protocol": "TCP", "port": 8000}]},
        ],
    }
    for index, policy in enumerate(policies):
        for direction in {"ingress", "egress"} & set(policy["spec"]):
            for rule in rules[direction]:
                changed = copy.deepcopy(policies)
                changed[index]["spec"][direction].append(rule)
                yield f"{policy['metadata']['name']} {direction} {rule}", changed


@pytest.mark.parametrize(("variant", "servers"), [("defaults", SERVERS), ("narrowed", {"vllm"})])
@pytest.mark.parametrize("mutations", [drops, changes, additions])
def test_a_wrong_policy_is_noticed(policies, allowed, mutations, variant, servers):
    mutated = [(what, changed) for what, changed in mutations(policies[variant]) if what.split(" ")[0] in servers]
    assert len(mutated) >= 10
    assert [what for what, changed in mutated if not surprises(allowed, changed, variant)] == []
