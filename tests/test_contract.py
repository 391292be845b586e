"""The platform contract: platform.md's tables (contract.yml) against what the API server holds after site.yml.

One series of deploys on one cluster, in the order of DEPLOYS. The cluster's state after each is kept, so that a test can
compare a row with its deploy, or two deploys with each other.
"""

import json
from pathlib import Path

import pytest
import yaml

ACCOUNT = "123456789012"
NAMESPACE = "ml-models"
GPU = "nvidia.com/gpu"
TABLES = yaml.safe_load((Path(__file__).parent / "contract.yml").read_text().replace("ACCOUNT", ACCOUNT))
SAME = {"vllm_judge_variant": "judge-large"}

# Each on top of the one before.
DEPLOYS = {
    "judge": {"vllm_judge_variant": "judge"},
    "large": SAME,
    "parked": {**SAME, "vllm_judge_parked": True},
    "woken": SAME,
    "none": {"vllm_judge_variant": "none"},
    "cpu only": {"triton_enabled_profiles": ["cpu"]},
    "cpu and gpu": {},
    "gpu only": {"triton_enabled_profiles": ["gpu"]},
    # All nodes have taints, so nothing that tolerates none can run here.
    "base": {
        "triton_enabled_profiles": ["base", "gpu"],
        "triton_profiles": {"base": {}},
        "apply_wait": False,
    },
    "pod identity": {"vllm_network_policy_pod_identity": True},
    "gitops": {"vllm_judge_variant": "judge", "platform_delivery": "gitops"},
    "gitops large": {**SAME, "platform_delivery": "gitops"},
}


class Snapshot:
    """The state of a cluster at one moment."""

    def __init__(self, objects):
        self._objects = {
            (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
            # Items of a list do not say their kind.
            for item in ({**found, "kind": key.split("/")[0]} for key, _, found in objects)
        }

    def get(self, kind, name, namespace=NAMESPACE) -> dict:
        return self._objects[kind, namespace, name]

    def all(self, kind, namespace=NAMESPACE, **labels) -> list[dict]:
        return [
            item
            for (kind_, namespace_, _), item in sorted(self._objects.items())
            if (kind_, namespace_) == (kind, namespace) and labels.items() <= item["metadata"].get("labels", {}).items()
        ]

    def ours(self) -> list[str]:
        """What is labelled as the project's, apart from its lock, namespaces, and what controllers make of ours."""
        return sorted(
            f"{kind} {namespace}/{name}"
            for (kind, namespace, name), item in self._objects.items()
            if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "modelyard"
            and kind not in ("Lease", "Namespace", "Endpoints")
            and "ownerReferences" not in item["metadata"]
        )

    def marks(self, app) -> dict[str, tuple]:
        """UID and resourceVersion of everything with the label app: equal marks mean that it was not touched.

        The controller that copies a Service's state into EndpointSlices and the pods' own kubelet write when they like.
        """
        return {
            f"{kind} {name}": (item["metadata"]["uid"], item["metadata"]["resourceVersion"])
            for (kind, _, name), item in self._objects.items()
            if item["metadata"].get("labels", {}).get("app") == app and kind not in ("EndpointSlice", "Endpoints")
        }


class Deploys:
    """Runs the chain as far as it is asked for. A deploy that fails fails the tests that need it or a later one."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder
        self.done: dict[str, Snapshot] = {}
        self.failure: Exception | None = None
        # Nothing but what the inventory of any cluster must say: all the rest is the project's default.
        inventory = {
            "clusters": {
                "hosts": {"contract": {}},
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                    "platform_connection": {"kubeconfig": str(cluster.kubeconfig)},
                    "platform_api_server": cluster.url,
                    "platform_aws_account_id": ACCOUNT,
                },
            }
        }
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))

    def run(self, variables, **more):
        return self.cluster.playbook("site", "-e", json.dumps(variables), inventory=self.folder / "hosts.yml", **more)

    def __getitem__(self, wanted) -> Snapshot:
        for name, variables in DEPLOYS.items():
            if wanted in self.done:
                break
            if name in self.done:
                continue
            if self.failure:
                raise self.failure
            try:
                self.run(variables)
            except BaseException as error:
                self.failure = error
                raise
            self.done[name] = Snapshot(self.cluster.objects())
        return self.done[wanted]


@pytest.fixture(scope="module")
def deploys(cluster, tmp_path_factory):
    """The chain, in a namespace that enforces the strictest Pod Security level."""
    cluster.reset()
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    return Deploys(cluster, tmp_path_factory.mktemp("contract"))


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


@pytest.mark.parametrize("deploy", ["judge", "large", "woken"])
def test_every_pod_is_admitted_and_ready_in_a_restricted_namespace(deploys, deploy):
    state = deploys[deploy]
    labels = state.get("Namespace", NAMESPACE, namespace="")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    found = {
        item["metadata"]["name"]: (item["spec"]["replicas"], item["status"].get("readyReplicas"))
        for item in state.all("Deployment")
    }
    assert found == {"triton-inference": (2, 2), "triton-inference-gpu": (1, 1), "vllm": (1, 1), "judge-vllm": (1, 1)}


def test_the_restricted_namespace_is_one_that_refuses(deploys, cluster):
    assert deploys["judge"]
    tried = ("run", "refused", "-n", NAMESPACE, "--image=registry.example/a:1", "--dry-run=server")
    assert "violates PodSecurity" in cluster.kubectl(*tried, check=False).stderr


@pytest.mark.parametrize("row", TABLES["placement"], ids=lambda row: f"{row['deploy']}-{row['app']}")
def test_placement(deploys, row):
    state = deploys[row["deploy"]]
    pods = [pod for pod in state.all("Pod", app=row["app"]) if not pod["metadata"].get("deletionTimestamp")]
    types = {
        state.get("Node", pod["spec"]["nodeName"], "")["metadata"]["labels"]["node.kubernetes.io/instance-type"]
        for pod in pods
    }
    assert (len(pods), types) == (row["pods"], {row["instance_type"]} if row["pods"] else set())


def test_two_pods_of_triton_are_on_two_nodes(deploys):
    assert len({pod["spec"]["nodeName"] for pod in deploys["judge"].all("Pod", app="triton-inference")}) == 2


def test_no_server_starts_eagerly(deploys):
    for name in ("judge", "large"):
        assert "eager" not in json.dumps(deploys[name].all("Deployment"))


# --- Services, monitors, accounts ----------------------------------------------------------------------


@pytest.mark.parametrize("row", rows(TABLES["services"]))
def test_service(deploys, row):
    state = deploys["judge"]
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
    state = deploys["judge"]
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
    found = deploys["judge"].get("ServiceAccount", row["name"])
    assert found["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn", "none") == row["role"]


def test_no_credentials_are_stored(deploys):
    assert deploys["judge"].all("Secret") == []
    text = json.dumps([deploys["judge"].all(kind) for kind in ("Deployment", "ConfigMap")])
    assert "AWS_SECRET_ACCESS_KEY" not in text
    assert "AWS_ACCESS_KEY_ID" not in text


def rights(cluster, namespace, account) -> set[str]:
    """All that the API server lets an account do in a namespace, one right a line."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    who = f"system:serviceaccount:{NAMESPACE}:{account}"
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated")
    impersonated = [f"--as={who}", *(f"--as-group={group}" for group in groups)]
    answer = cluster.kubectl("create", "--raw", path, "-f", "-", *impersonated, input=json.dumps(review))
    status = json.loads(answer.stdout)["status"]
    assert not status["incomplete"]
    found = set()
    for rule in status["resourceRules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                names = "".join(f" named {name}" for name in rule.get("resourceNames", []))
                found |= {f"{verb} {group}{'/' if group else ''}{resource}{names}" for verb in rule["verbs"]}
    for rule in status["nonResourceRules"]:
        found |= {f"{verb} {url}" for verb in rule["verbs"] for url in rule["nonResourceURLs"]}
    return found


def test_the_workflows_may_do_exactly_this(deploys, cluster):
    table, state = TABLES["workflow_rights"], deploys["judge"]
    anyone = rights(cluster, NAMESPACE, "default")
    assert anyone
    assert rights(cluster, NAMESPACE, table["account"]) - anyone == set(table["rights"])
    for elsewhere in ("argocd", "ai-platform", "kube-system"):
        assert rights(cluster, elsewhere, table["account"]) == rights(cluster, elsewhere, "default")
    binding = state.get("RoleBinding", table["binding"])
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", table["role"])
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": table["account"], "namespace": NAMESPACE}]


def test_the_servers_accounts_may_do_nothing(deploys, cluster):
    state = deploys["judge"]
    for item in state.all("Deployment"):
        account = item["spec"]["template"]["spec"]["serviceAccountName"]
        assert rights(cluster, NAMESPACE, account) == rights(cluster, NAMESPACE, "default")


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


# --- What is there, and what is left alone ------------------------------------------------------------


@pytest.mark.parametrize("deploy", TABLES["objects"])
def test_objects(deploys, deploy):
    assert deploys[deploy].ours() == TABLES["objects"][deploy]


@pytest.mark.parametrize("deploy", ["large", "parked", "woken", "none"])
def test_the_judge_never_touches_vllm(deploys, deploy):
    before = deploys["judge"].marks("vllm")
    kinds = {key.split()[0] for key in before}
    assert kinds >= {"ConfigMap", "Deployment", "NetworkPolicy", "Pod", "Service", "ServiceAccount", "ServiceMonitor"}
    assert deploys[deploy].marks("vllm") == before


def test_another_judge_is_another_pod(deploys):
    pods = [
        {pod["metadata"]["uid"] for pod in deploys[name].all("Pod", app="judge-vllm")}
        for name in ("judge", "large", "woken")
    ]
    assert all(pods)
    assert not pods[0] & pods[1]
    assert not pods[1] & pods[2]


def test_a_parked_judge_keeps_everything_but_its_pods(deploys):
    def kept(state):
        return {key for key in state.marks("judge-vllm") if not key.startswith(("Pod ", "ReplicaSet "))}

    assert kept(deploys["parked"]) == kept(deploys["large"]) == kept(deploys["woken"])


@pytest.mark.parametrize(
    ("before", "after", "app"),
    [
        ("none", "cpu only", "triton-inference"),
        ("cpu only", "cpu and gpu", "triton-inference"),
        ("cpu and gpu", "gpu only", "triton-inference-gpu"),
        ("gpu only", "base", "triton-inference-gpu"),
    ],
)
def test_a_profile_never_touches_another(deploys, before, after, app):
    assert "Deployment " + app in deploys[before].marks(app)
    assert deploys[after].marks(app) == deploys[before].marks(app)


def test_a_disabled_profile_is_gone(deploys):
    assert deploys["cpu only"].marks("triton-inference-gpu") == {}
    assert deploys["gpu only"].marks("triton-inference") == {}


@pytest.mark.parametrize("twin", [{"name": "triton-inference"}, {"replicas": 1}], ids=["given", "inherited"])
def test_two_profiles_with_one_name_are_refused(deploys, cluster, twin):
    assert deploys["gpu only"]
    variables = {"triton_enabled_profiles": ["cpu", "twin", "gpu"], "triton_profiles": {"twin": twin}}
    before = cluster.resource_versions()
    done = deploys.run(variables, check=False)
    assert done.returncode
    text = " ".join((done.stdout + done.stderr).split())
    assert "'triton-inference': is the name that triton_profiles.cpu.name gives to another server's object" in text
    assert "triton_profiles.twin.name" in text or "name" not in twin
    assert cluster.resource_versions() == before


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


# --- Nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLES["nodes"], ids=lambda row: row["profile"])
def test_node(deploys, row):
    nodes = [
        item
        for item in deploys["judge"].all("Node", namespace="")
        if item["metadata"]["labels"].get("workload") == row["profile"]
    ]
    assert nodes
    for item in nodes:
        free = item["status"]["allocatable"]
        assert {
            "profile": item["metadata"]["labels"]["workload"],
            "instance_type": item["metadata"]["labels"]["node.kubernetes.io/instance-type"],
            "cpu": free["cpu"],
            "memory": free["memory"],
            "gpus": int(free[GPU]) if GPU in free else "none",
            "taints": item["spec"]["taints"],
        } == row
