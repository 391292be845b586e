"""One chain of deploys on one cluster: what a change of the judge, of a profile or of a server touches, and what it leaves alone.

What the cluster holds after each deploy is kept, so that a test compares two of them.
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
# A further vLLM server, without a pod: the local cluster has no node for a third.
FAST = {"vllm_enabled_profiles": ["vllm", "fast"], "vllm_profiles": {"fast": {"replicas": 0}}}
MLSERVER = {
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
}

# Each on top of the one before.
DEPLOYS = {
    "judge": {"vllm_judge_variant": "judge"},
    "large": LARGE,
    "parked": {**LARGE, "vllm_judge_parked": True, "triton_enabled_profiles": ["cpu"]},
    "woken": {**LARGE, **FAST, **MLSERVER},
    "none": {"vllm_judge_variant": "none", "triton_enabled_profiles": ["gpu"]},
    # All nodes have taints, so nothing that tolerates none can run here.
    "base": {
        "triton_enabled_profiles": ["base", "gpu"],
        "triton_profiles": {"base": {}},
        "apply_wait": False,
    },
}


class Snapshot(Objects):
    """The state of a cluster at one moment."""

    def __init__(self, objects):
        # Items of a list do not say their kind.
        super().__init__([{**found, "kind": key.split("/")[0]} for key, _, found in objects])

    def ours(self) -> list[str]:
        """What is labelled as the project's, apart from its lock, records, namespaces, and what controllers make of ours."""
        return sorted(
            f"{kind} {namespace}/{name}"
            for (kind, namespace, name), item in self.by_name.items()
            if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "modelyard"
            and kind not in ("Lease", "Namespace", "Endpoints")
            and item["metadata"]["labels"].get("modelyard/component") != "release"
            and "ownerReferences" not in item["metadata"]
        )

    def marks(self, app) -> dict[str, tuple]:
        """UID and resourceVersion of everything with the label app: equal marks mean that it was not touched.

        The controller that copies a Service's state into EndpointSlices and the pods' own kubelet write when they like.
        """
        return {
            f"{kind} {name}": (item["metadata"]["uid"], item["metadata"]["resourceVersion"])
            for (kind, _, name), item in self.by_name.items()
            if item["metadata"].get("labels", {}).get("app") == app and kind not in ("EndpointSlice", "Endpoints")
        }


class Deploys:
    """Runs the chain as far as it is asked for. A deploy that fails fails the tests that need it or a later one."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder = cluster, folder
        self.done: dict[str, Snapshot] = {}
        self.said: dict[str, str] = {}
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
                    "platform_accepted_placeholders": [ACCOUNT],
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
                self.said[name] = " ".join(self.run(variables).stdout.split())
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


# --- Pods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deploy", ["judge", "large", "woken"])
def test_every_pod_is_admitted_and_ready_in_a_restricted_namespace(deploys, deploy):
    state = deploys[deploy]
    labels = state.get("Namespace", NAMESPACE, namespace="")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    found = {
        item["metadata"]["name"]: (item["spec"]["replicas"], item["status"].get("readyReplicas"))
        for item in state.all("Deployment")
    }
    further = {"vllm-fast": (0, None), "mlserver": (1, 1)} if deploy == "woken" else {}
    assert found == further | {
        "triton-inference": (2, 2),
        "triton-inference-gpu": (1, 1),
        "vllm": (1, 1),
        "judge-vllm": (1, 1),
    }


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


# --- What is there, and what is left alone ------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered(render) -> dict[str, dict[str, dict]]:
    """By deploy, the objects that tests/test_contract.py compares with the contract, by kind, namespace and name."""
    found = render({name: {**variables, "platform_cluster_name": "contract"} for name, variables in DEPLOYS.items()})
    return {
        name: {
            f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}": item
            for item in found[name]["objects"]
            if item["kind"] != "Application"
        }
        for name in DEPLOYS
    }


def covers(live, wanted) -> bool:
    """Tell whether a live value is the wanted one, apart from fields that the API server adds."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(key in live and covers(live[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(covers, live, wanted))
    return live == wanted


@pytest.mark.parametrize("deploy", DEPLOYS)
def test_the_cluster_holds_what_is_rendered_and_nothing_else_of_ours(deploys, rendered, deploy):
    state = deploys[deploy]
    assert state.ours() == sorted(rendered[deploy])
    for item in rendered[deploy].values():
        live = state.get(item["kind"], item["metadata"]["name"])
        assert covers(live, {key: value for key, value in item.items() if key != "apiVersion"}), item["metadata"][
            "name"
        ]


def test_no_secret_is_stored(deploys):
    assert deploys["judge"].all("Secret") == []


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


def test_a_plan_says_who_stops_serving_and_for_how_long(deploys):
    """The judge's old pod holds the last GPU, may drain for as long as it has to end, and the new one is on another node."""
    assert deploys["none"]
    judge = "update Deployment ml-models/judge-vllm:"
    large, parked, woken, none = (
        deploys.said[name].partition(judge)[2] for name in ("large", "parked", "woken", "none")
    )
    assert "replaces the only pod: down for up to 2400 s" in large
    assert "stops serving" in parked
    assert woken
    assert "stops serving" not in woken
    assert not none
    assert "prune Deployment ml-models/judge-vllm: stops serving" in deploys.said["none"]
    assert "replaces" not in deploys.said["judge"]


def test_a_parked_judge_keeps_everything_but_its_pods(deploys):
    def kept(state):
        return {key for key in state.marks("judge-vllm") if not key.startswith(("Pod ", "ReplicaSet "))}

    assert kept(deploys["parked"]) == kept(deploys["large"]) == kept(deploys["woken"])


@pytest.mark.parametrize(
    ("before", "after", "app"),
    [
        ("large", "parked", "triton-inference"),
        ("parked", "woken", "triton-inference"),
        ("woken", "none", "triton-inference-gpu"),
        ("none", "base", "triton-inference-gpu"),
    ],
)
def test_a_profile_never_touches_another(deploys, before, after, app):
    assert "Deployment " + app in deploys[before].marks(app)
    assert deploys[after].marks(app) == deploys[before].marks(app)


def test_a_disabled_profile_is_gone(deploys):
    assert deploys["parked"].marks("triton-inference-gpu") == {}
    assert deploys["none"].marks("triton-inference") == {}
    assert deploys["none"].marks("vllm-fast") == {}


def test_a_further_vllm_server_comes_and_goes_without_touching_the_first(deploys):
    assert "Deployment vllm-fast" in deploys["woken"].marks("vllm-fast")
    assert deploys["parked"].marks("vllm") == deploys["woken"].marks("vllm") == deploys["none"].marks("vllm")


def test_an_mlserver_comes_and_goes(deploys):
    assert {"Deployment mlserver", "Service mlserver", "ConfigMap mlserver"} <= deploys["woken"].marks(
        "mlserver"
    ).keys()
    assert deploys["parked"].marks("mlserver") == deploys["none"].marks("mlserver") == {}


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
