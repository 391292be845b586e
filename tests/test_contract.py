"""The platform contract: platform.md's tables (contract.yml) against what the project renders. Needs no cluster.

Each deploy of the tables is a host of one play.
"""

import json
from pathlib import Path

import pytest
import yaml
from rendering import Objects

ACCOUNT = "123456789012"
NAMESPACE = "ml-models"
GPU = "nvidia.com/gpu"
TABLES = yaml.safe_load((Path(__file__).parent / "contract.yml").read_text().replace("ACCOUNT", ACCOUNT))
LARGE = {"vllm_judge_variant": "judge-large"}
GITOPS = {"platform_delivery": "gitops"}

# Nothing but what the inventory of any cluster must say, and this: all the rest is the project's default.
DEPLOYS = {
    "judge": {"vllm_judge_variant": "judge"},
    "large": LARGE,
    "parked": {**LARGE, "vllm_judge_parked": True},
    "none": {},
    "base": {"triton_enabled_profiles": ["base", "gpu"], "triton_profiles": {"base": {}}},
    "several": {"vllm_enabled_profiles": ["vllm", "fast"], "vllm_profiles": {"fast": {}}},
    "pod identity": {"vllm_network_policy_pod_identity": True},
    "gitops": {"vllm_judge_variant": "judge", **GITOPS},
    "gitops large": {**LARGE, **GITOPS},
    "gitops several": {"vllm_enabled_profiles": ["vllm", "fast"], "vllm_profiles": {"fast": {}}, **GITOPS},
}


@pytest.fixture(scope="module")
def deploys(render) -> dict[str, Objects]:
    """By deploy, what is applied: the objects, or by GitOps the Applications."""
    hosts = {name.replace(" ", "-"): variables for name, variables in DEPLOYS.items()}
    rendered = render(hosts)
    return {
        name: Objects(
            [
                item
                for item in rendered[name.replace(" ", "-")]["objects"]
                if (item["kind"] == "Application") == name.startswith("gitops")
            ]
        )
        for name in DEPLOYS
    }


def rows(table):
    return [pytest.param(row, id=f"{row['deploy']}-{row['name']}" if "deploy" in row else row["name"]) for row in table]


def only(items):
    assert len(items) == 1, [item["metadata"]["name"] for item in items]
    return items[0]


# --- Deployments -----------------------------------------------------------------------------------


def probe(container, name):
    http = container[f"{name}Probe"]["httpGet"]
    return f"{http['path']} on {http['port']}"


def startup(container):
    found = container["startupProbe"]
    return f"{found.get('initialDelaySeconds', 0)} s + {found['failureThreshold']} x {found['periodSeconds']} s"


def table_of(deployment, row):
    """A live Deployment in the shape of its row."""
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    server = pod["containers"][0]
    requests, limits = server["resources"]["requests"], server["resources"]["limits"]
    env = {entry["name"]: entry.get("value") for entry in server.get("env", [])}
    table = {
        "name": deployment["metadata"]["name"],
        "labels": {key: deployment["metadata"]["labels"].get(key) for key in row["labels"]},
        "selector": spec["selector"]["matchLabels"],
        "pod_labels": spec["template"]["metadata"]["labels"],
        "service_account": pod["serviceAccountName"],
        "replicas": spec["replicas"],
        "node_selector": pod.get("nodeSelector", {}),
        "tolerations": pod.get("tolerations", []),
        "init_containers": [each["name"] for each in pod.get("initContainers", [])],
        "containers": [each["name"] for each in pod["containers"]],
        "image": server["image"],
        "args": [server["args"][0], *sorted(server["args"][1:])],
        "env": {name: env.get(name) for name in row["env"]},
        "ports": {port["name"]: port["containerPort"] for port in server["ports"]},
        "liveness": probe(server, "liveness"),
        "readiness": probe(server, "readiness"),
        "startup": startup(server),
        "cpu": f"{requests['cpu']} / {limits['cpu']}",
        "memory": f"{requests['memory']} / {limits['memory']}",
        "gpus": int(limits[GPU]) if GPU in limits else "none",
    }
    return {key: value for key, value in table.items() if key in row}


@pytest.mark.parametrize("row", rows(TABLES["deployments"]))
def test_deployment(deploys, row):
    expected = {key: value for key, value in row.items() if key != "deploy"}
    expected["args"] = [row["args"][0], *sorted(row["args"][1:])]
    assert table_of(deploys[row["deploy"]].get("Deployment", row["name"]), row) == expected


def test_no_server_starts_eagerly(deploys):
    for name in ("judge", "large"):
        assert "eager" not in json.dumps(deploys[name].all("Deployment"))


# --- Services, monitors, accounts ----------------------------------------------------------------------


@pytest.mark.parametrize("row", rows(TABLES["services"]))
def test_service(deploys, row):
    row = dict(row)
    state = deploys[row.pop("deploy", "judge")]
    service = state.get("Service", row["name"])
    behind = only(
        [item for item in state.all("Deployment") if item["spec"]["selector"]["matchLabels"] == row["selector"]]
    )
    container = behind["spec"]["template"]["spec"]["containers"][0]
    targets = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {
        "name": service["metadata"]["name"],
        "labels": {key: service["metadata"]["labels"].get(key) for key in row["labels"]},
        "type": service["spec"]["type"],
        "selector": service["spec"]["selector"],
        "ports": {
            port["name"]: f"{port['port']} -> {targets.get(port['targetPort'], port['targetPort'])}"
            for port in service["spec"]["ports"]
        },
    } == row


@pytest.mark.parametrize("row", rows(TABLES["monitors"]))
def test_monitor(deploys, row):
    state = deploys[row.get("deploy", "judge")]
    spec = state.get("ServiceMonitor", row["name"])["spec"]
    # Prometheus looks in the monitor's own namespace, and calls the job as the Service unless jobLabel says otherwise.
    assert "namespaceSelector" not in spec
    assert set(spec["selector"]) == {"matchLabels"}
    chosen = [
        service
        for service in state.all("Service", **spec["selector"]["matchLabels"])
        if spec["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    ]
    label = spec.get("jobLabel")
    jobs = [item["metadata"]["labels"].get(label, "") if label else item["metadata"]["name"] for item in chosen]
    assert (jobs, spec["endpoints"]) == (row["jobs"], row["endpoints"])
    assert "relabelings" not in spec["endpoints"][0]


@pytest.mark.parametrize("row", rows(TABLES["accounts"]))
def test_account(deploys, row):
    found = deploys[row.get("deploy", "judge")].get("ServiceAccount", row["name"])
    assert found["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn", "none") == row["role"]


def test_no_credentials_are_stored(deploys):
    assert deploys["judge"].all("Secret") == []
    text = json.dumps([deploys["judge"].all(kind) for kind in ("Deployment", "ConfigMap")])
    assert "AWS_SECRET_ACCESS_KEY" not in text
    assert "AWS_ACCESS_KEY_ID" not in text


# --- vLLM's adapters -------------------------------------------------------------------------------


def test_adapters(deploys):
    table = TABLES["adapters"]
    pod = deploys["judge"].get("Deployment", "vllm")["spec"]["template"]["spec"]
    containers = [*pod["initContainers"], *pod["containers"]]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert [each["name"] for each in containers] == table["containers"]
    # Both write to the same folder, as the same user and group.
    mounts = [only_mount(each, table["path"]) for each in containers]
    assert len({mount["name"] for mount in mounts}) == 1
    assert table["volume"] in volumes[mounts[0]["name"]]
    assert not any(mount.get("readOnly") or mount.get("subPath") for mount in mounts)
    assert not any({"runAsUser", "runAsGroup"} & set(each["securityContext"]) for each in containers)
    loader = containers[0]
    env = {entry["name"]: entry.get("value") for entry in loader["env"]}
    assert loader["image"].rpartition(":")[0] == table["image"]
    assert env["MLFLOW_TRACKING_URI"] == table["tracking_uri"]
    assert env["ADAPTER_MODEL"] == table["model"]
    assert json.loads(env["ADAPTER_SLOTS"]) == table["slots"]
    assert env["ADAPTERS_PATH"] == table["path"]
    # No credentials of its own: those of the account.
    assert "aws" not in json.dumps(sorted(env)).lower().replace("aws_region", "")


def only_mount(container, path):
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == path]
    return mount


def test_vllm_starts_with_the_script_of_its_configmap(deploys):
    table, state = TABLES["adapters"], deploys["judge"]
    pod = state.get("Deployment", "vllm")["spec"]["template"]["spec"]
    server = pod["containers"][0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folder, _, file = server["command"][-1].rpartition("/")
    mounted = volumes[only_mount(server, folder)["name"]]["configMap"]["name"]
    assert (mounted, file) == (table["startup_configmap"], table["startup_file"])
    script = state.get("ConfigMap", mounted)["data"][file]
    assert "--lora-modules" in script
    for slot in table["slots"]:
        assert slot in script


# --- NetworkPolicies -------------------------------------------------------------------------------


def peer(found):
    if "ipBlock" in found:
        block = found["ipBlock"]
        return block["cidr"] + (f" without {', '.join(block['except'])}" if block.get("except") else "")
    assert set(found) == {"namespaceSelector"}, found
    labels = found["namespaceSelector"].get("matchLabels", {})
    return f"namespace {labels['kubernetes.io/metadata.name']}" if labels else "any namespace"


def flows(rules, side):
    return [
        f"{one} -> {port['protocol']} {port['port']}"
        for rule in rules
        for one in ([peer(each) for each in rule.get(side, [])] or ["anywhere"])
        for port in rule["ports"]
    ]


@pytest.mark.parametrize("row", rows(TABLES["network_policies"]))
def test_network_policy(deploys, row):
    spec = deploys[row["deploy"]].get("NetworkPolicy", row["name"])["spec"]
    limited = "Egress" in spec["policyTypes"]
    egress = sorted(flows(spec.get("egress", []), "to")) if limited else "open"
    assert "Ingress" in spec["policyTypes"]
    assert spec["podSelector"] == {"matchLabels": row["pods"]}
    assert sorted(flows(spec["ingress"], "from")) == sorted(row["ingress"])
    assert egress == (sorted(row["egress"]) if isinstance(row["egress"], list) else row["egress"])


# --- What there is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("deploy", TABLES["objects"])
def test_objects(deploys, deploy):
    assert deploys[deploy].names() == sorted(TABLES["objects"][deploy])


# --- GitOps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deploy", TABLES["applications"]["deploys"])
def test_applications(deploys, deploy):
    table = TABLES["applications"]
    found = deploys[deploy].all("Application", namespace=table["namespace"])
    paths = {item["metadata"]["name"]: item["spec"]["source"]["path"] for item in found}
    assert paths == table["deploys"][deploy]


@pytest.mark.parametrize("deploy", TABLES["applications"]["deploys"])
def test_application_settings(deploys, deploy):
    table = TABLES["applications"]
    for item in deploys[deploy].all("Application", namespace=table["namespace"]):
        spec = item["spec"]
        assert {
            "project": spec["project"],
            "repo_url": spec["source"]["repoURL"],
            "target_revision": spec["source"]["targetRevision"],
            "destination": spec["destination"],
            "automated": spec["syncPolicy"]["automated"],
            "finalizers": item["metadata"].get("finalizers", []),
        } == {
            key: table[key]
            for key in ("project", "repo_url", "target_revision", "destination", "automated", "finalizers")
        }, item["metadata"]["name"]
