"""The link `pods` of the identity report: pods of a real API server, as EKS's webhook leaves them, and with each thing missing in turn."""

import copy
import itertools
import json
import time

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import pods
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import Observed, observe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from aws_api import ACCOUNT, ROOT

SPACE = "ml-models"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/my-vllm-s3-read"
NOTES = {"eks.amazonaws.com/role-arn": ROLE, "eks.amazonaws.com/sts-regional-endpoints": "true"}
# With a taint that only its own pods tolerate: nodeName places them.
NODE, OTHER_NODE = "cpu-compute-1", "gpu-1"
# What the webhook adds: pkg/handler/handler.go of amazon-eks-pod-identity-webhook.
IRSA = {
    "folder": "/var/run/secrets/eks.amazonaws.com/serviceaccount",
    "volume": "aws-iam-token",
    "file": "token",
    "audience": "sts.amazonaws.com",
    "env": {
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    },
}
POD_IDENTITY = {
    "folder": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount",
    "volume": "eks-pod-identity-token",
    "file": "eks-pod-identity-token",
    "audience": "pods.eks.amazonaws.com",
    "env": {
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_REGION": "eu-central-1",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
    },
}
# As EKS makes it.
WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingWebhookConfiguration",
    "metadata": {"name": "pod-identity-webhook"},
    "webhooks": [
        {
            "name": "iam-for-pods.amazonaws.com",
            "admissionReviewVersions": ["v1beta1"],
            "clientConfig": {"url": "https://127.0.0.1:23443/mutate"},
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {
                "matchExpressions": [{"key": "eks.amazonaws.com/skip-pod-identity-webhook", "operator": "DoesNotExist"}]
            },
            "reinvocationPolicy": "IfNeeded",
            "rules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                    "scope": "*",
                }
            ],
            "sideEffects": "None",
            "timeoutSeconds": 1,
        }
    ],
}
AGENT = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "eks-pod-identity-agent", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": {"app.kubernetes.io/name": "eks-pod-identity-agent"}},
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "eks-pod-identity-agent"}},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": NODE},
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "agent", "image": "agent"}],
            },
        },
    },
}
NUMBERS = itertools.count()


def injected(kind):
    """A pod's spec after the webhook: an init container that loads and the server carry everything."""
    container = {
        "image": "server",
        "env": [{"name": name, "value": value} for name, value in kind["env"].items()],
        "volumeMounts": [{"name": kind["volume"], "mountPath": kind["folder"], "readOnly": True}],
    }
    token = {"audience": kind["audience"], "expirationSeconds": 86400, "path": kind["file"]}
    return {
        "nodeName": NODE,
        "initContainers": [{"name": "load-adapters", **copy.deepcopy(container)}],
        "containers": [{"name": "vllm", **copy.deepcopy(container)}],
        "volumes": [{"name": kind["volume"], "projected": {"sources": [{"serviceAccountToken": token}]}}],
    }


@pytest.fixture(scope="module")
def world(cluster):
    """A cluster like EKS: with the webhook, which does not answer, so that pods are what the tests make of them."""
    cluster.reset()
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE, "labels": {"team": "ml"}}})
    put(cluster, WEBHOOK)
    yield cluster
    cluster.reset()


def path_of(item):
    kinds = {"MutatingWebhookConfiguration": "mutatingwebhookconfigurations", "DaemonSet": "daemonsets"}
    inside = f"/namespaces/{item['metadata']['namespace']}" if "namespace" in item["metadata"] else ""
    return f"/apis/{item['apiVersion']}{inside}/{kinds[item['kind']]}"


def put(cluster, item):
    cluster.api("DELETE", f"{path_of(item)}/{item['metadata']['name']}")
    cluster.api("POST", path_of(item), item)


def made(cluster, spec, notes=None, pod=None, account=None):
    """Make a ServiceAccount and its pod; returns the account's name."""
    name = account or f"sa-{next(NUMBERS)}"
    inside = f"/api/v1/namespaces/{SPACE}"
    if account is None:
        account = {"metadata": {"name": name, "annotations": NOTES if notes is None else notes}}
        cluster.api("POST", f"{inside}/serviceaccounts", account)
    if spec is not None:
        metadata = {"name": f"pod-{next(NUMBERS)}", **(pod or {})}
        cluster.api("POST", f"{inside}/pods", {"metadata": metadata, "spec": {"serviceAccountName": name, **spec}})
    return name


def judged(cluster, name, pod_identity=False, connection=None, **more):
    """Look at an account's pods; returns "ok", "broken" or "unknown", and what is said."""
    item = {"namespace": SPACE, "name": name, "role_arn": ROLE, "component": "vllm", **more}
    seen = observe(Cluster(connection or {"kubeconfig": str(cluster.kubeconfig)}), [item], pod_identity)
    try:
        notices, doubts = pods.judge(seen, item, pod_identity)
    except Broken as error:
        return "broken", str(error)
    except Unjudged as error:
        return "unknown", str(error)
    return ("unknown", "; ".join(doubts)) if doubts else ("ok", "; ".join(notices))


def containers(spec):
    return [*spec["initContainers"], *spec["containers"]]


def without(*names):
    """Take variables from the server's container."""

    def change(spec):
        server = spec["containers"][0]
        server["env"] = [entry for entry in server["env"] if entry["name"] not in names]

    return change


def with_env(index=0, everywhere=False, **values):
    """Set variables; a mapping is a valueFrom."""

    def change(spec):
        for container in containers(spec) if everywhere else [spec["containers"][index]]:
            for name, value in values.items():
                container["env"] = [entry for entry in container["env"] if entry["name"] != name]
                given = {"valueFrom": value} if isinstance(value, dict) else {"value": value}
                container["env"].append({"name": name, **given})

    return change


def token_with(**values):
    return lambda spec: spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"].update(values)


def both(*changes):
    return lambda spec: [change(spec) for change in changes]


def not_loading(spec):
    spec["initContainers"][0]["env"] = []


def not_mounted(spec):
    spec["containers"][0]["volumeMounts"] = []


def mounted_elsewhere(spec):
    spec["containers"][0]["volumeMounts"][0]["mountPath"] = "/elsewhere"


def no_token(spec):
    spec["volumes"][0] = {"name": spec["volumes"][0]["name"], "emptyDir": {}}


def nothing(spec):
    for container in containers(spec):
        container["env"], container["volumeMounts"] = [], []
    spec["volumes"] = []


def from_a_secret(spec):
    spec["containers"][0]["envFrom"] = [{"secretRef": {"name": "settings"}}]


SECRET = {"secretKeyRef": {"name": "keys", "key": "id"}}
MAYBE = {"secretKeyRef": {"name": "keys", "key": "id", "optional": True}}
# A change of a pod, what becomes of the link, and what is said.
CASES = {
    "older than the annotation": (nothing, "broken", "no AWS_ROLE_ARN: it is older than the annotation"),
    "no role": (without("AWS_ROLE_ARN"), "broken", "container vllm: no AWS_ROLE_ARN"),
    "no token file": (without("AWS_WEB_IDENTITY_TOKEN_FILE"), "broken", "container vllm: no AWS_WEB_IDENTITY_TOKEN_FILE"),
    "the loader": (not_loading, "broken", "container load-adapters: no AWS_ROLE_ARN"),
    "another role": (
        with_env(everywhere=True, AWS_ROLE_ARN="arn:aws:iam::1:role/old"), "broken", f"AWS_ROLE_ARN is arn:aws:iam::1:role/old, the ServiceAccount names {ROLE}",
    ),
    "a role from elsewhere": (with_env(AWS_ROLE_ARN=SECRET), "unknown", "what AWS_ROLE_ARN is set to is not read"),
    "not mounted": (not_mounted, "broken", "nothing is mounted at /var/run/secrets/eks.amazonaws.com/serviceaccount/token"),
    "mounted elsewhere": (mounted_elsewhere, "broken", "nothing is mounted at"),
    "another file": (token_with(path="other"), "broken", "the volume aws-iam-token has no token token"),
    "another audience": (token_with(audience="vault"), "broken", "its token is for the audience vault, not for sts.amazonaws.com"),
    "the API server's audience": (token_with(audience=""), "broken", "its token is for the audience the API server"),
    "no projected token": (no_token, "unknown", "is in the volume aws-iam-token, which is no projected token"),
    "no regional endpoint": (
        without("AWS_STS_REGIONAL_ENDPOINTS"), "broken", "no AWS_STS_REGIONAL_ENDPOINTS, although eks.amazonaws.com/sts-regional-endpoints is true",
    ),
    "the global endpoint": (with_env(AWS_STS_REGIONAL_ENDPOINTS="legacy"), "broken", "AWS_STS_REGIONAL_ENDPOINTS is legacy"),
    "no region": (without("AWS_REGION", "AWS_DEFAULT_REGION"), "ok", "no AWS_REGION, so its SDK asks in us-east-1"),
    "a key": (with_env(AWS_ACCESS_KEY_ID="AKIA"), "broken", "SDKs take AWS_ACCESS_KEY_ID before the role"),
    "a key of the loader": (lambda s: s["initContainers"][0]["env"].append({"name": "AWS_ACCESS_KEY_ID", "value": "A"}), "broken", "load-adapters: SDKs"),
    "a key from a Secret": (with_env(AWS_ACCESS_KEY_ID=SECRET), "broken", "SDKs take AWS_ACCESS_KEY_ID"),
    "a key that may be": (with_env(AWS_ACCESS_KEY_ID=MAYBE), "unknown", "whether it is set is not read"),
    "an empty key": (with_env(AWS_ACCESS_KEY_ID=""), "ok", ""),
    "a profile": (with_env(AWS_PROFILE="other"), "broken", "SDKs take AWS_PROFILE before the role"),
    "a file of credentials": (with_env(AWS_SHARED_CREDENTIALS_FILE="/x"), "unknown", "what the file of AWS_SHARED_CREDENTIALS_FILE says"),
    "variables of a Secret": (from_a_secret, "unknown", "variables from settings are not read"),
    "another S3": (with_env(AWS_ENDPOINT_URL_S3="http://minio:9000"), "unknown", "AWS_ENDPOINT_URL_S3 leads elsewhere than to AWS"),
    "S3 by its name": (with_env(AWS_ENDPOINT_URL_S3="https://s3.eu-central-1.amazonaws.com"), "ok", ""),
    "a proxy": (with_env(HTTPS_PROXY="http://proxy:3128", HTTP_PROXY="http://proxy:3128"), "ok", ""),
    "Pod Identity's": (
        both(without("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"), with_env(**{k: v for k, v in POD_IDENTITY["env"].items() if "CONTAINER" in k})),
        "broken", "EKS Pod Identity gives it a role, since an association comes before the annotation",
    ),
}  # fmt: skip


def test_a_pod_that_the_webhook_injected_into_has_its_role(world):
    assert judged(world, made(world, injected(IRSA))) == ("ok", "")


@pytest.mark.parametrize("name", CASES)
def test_what_a_pod_lacks_is_named(world, name):
    change, state, said = CASES[name]
    spec = injected(IRSA)
    change(spec)
    found = judged(world, made(world, spec))
    assert found[0] == state, found
    assert said in found[1]
    if state == "broken":
        assert found[1].startswith("pod pod-")


def test_a_container_that_is_skipped_is_named(world):
    skipped = {"annotations": {"eks.amazonaws.com/skip-containers": "istio,vllm"}}
    spec = injected(IRSA)
    without("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")(spec)
    state, said = judged(world, made(world, spec, pod=skipped))
    assert (state, "annotation eks.amazonaws.com/skip-containers names the container" in said) == ("broken", True)
    # What stands beside the server needs no role.
    assert judged(world, made(world, spec, pod=skipped), containers=["load-adapters"])[0] == "ok"


def test_an_audience_of_ones_own_is_the_tokens(world):
    notes = {**NOTES, "eks.amazonaws.com/audience": "mine"}
    state, said = judged(world, made(world, injected(IRSA), notes))
    assert (state, "for the audience sts.amazonaws.com, not for mine" in said) == ("broken", True)
    spec = injected(IRSA)
    token_with(audience="mine")(spec)
    assert judged(world, made(world, spec, notes))[0] == "ok"


def test_without_the_annotation_any_endpoint_of_sts_will_do(world):
    spec = injected(IRSA)
    without("AWS_STS_REGIONAL_ENDPOINTS")(spec)
    assert judged(world, made(world, spec, {"eks.amazonaws.com/role-arn": ROLE})) == ("ok", "")


def test_a_triton_with_a_profile_is_not_judged(world):
    spec = injected(IRSA)
    with_env(AWS_PROFILE="other")(spec)
    assert judged(world, made(world, spec), component="triton")[0] == "unknown"


def test_without_pods_that_is_said(world):
    assert judged(world, made(world, None)) == (
        "ok",
        f"{SPACE}/sa-{next(NUMBERS) - 1}: none of its pods runs, so none could be looked at",
    )


def test_each_pod_counts_and_says_how_it_is_started_anew(world):
    name = made(world, injected(IRSA))
    old = injected(IRSA)
    nothing(old)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "vllm-5d9c", "uid": "1", "controller": True}
    made(world, old, pod={"ownerReferences": [owner], "labels": {"pod-template-hash": "5d9c"}}, account=name)
    state, said = judged(world, name)
    assert (state, said.startswith("1 of 2 pods: pod pod-")) == ("broken", True)
    assert f"kubectl -n {SPACE} rollout restart deployment/vllm" in said


def without_pods_rule(item):
    item["webhooks"][0]["rules"][0]["resources"] = ["deployments"]


WEBHOOKS = {
    "absent": (None, "broken", "no MutatingWebhookConfiguration pod-identity-webhook for new pods is there"),
    "not for pods": (without_pods_rule, "broken", "no MutatingWebhookConfiguration"),
    "not for the namespace": (
        lambda w: w["webhooks"][0].update(namespaceSelector={"matchLabels": {"team": "other"}}), "broken", "leaves out the namespace ml-models",
    ),
    "for the namespace": (lambda w: w["webhooks"][0].update(namespaceSelector={"matchLabels": {"team": "ml"}}), "ok", ""),
    "somebody's own": (lambda w: (w["metadata"].update(name="irsa"), w["webhooks"][0].update(name="pod-identity-webhook.example.com")), "ok", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", WEBHOOKS)
def test_the_webhook_is_looked_at(world, name):
    change, state, said = WEBHOOKS[name]
    item = copy.deepcopy(WEBHOOK)
    world.api("DELETE", f"{path_of(WEBHOOK)}/pod-identity-webhook")
    if change:
        change(item)
        put(world, item)
    try:
        for spec in (injected(IRSA), None):
            found = judged(world, made(world, spec))
            assert (found[0], said in found[1]) == (state, True), found
    finally:
        world.api("DELETE", f"{path_of(item)}/{item['metadata']['name']}")
        put(world, WEBHOOK)


def test_a_pod_that_the_webhook_leaves_out_by_its_label(world):
    spec = injected(IRSA)
    nothing(spec)
    state, said = judged(
        world, made(world, spec, pod={"labels": {"eks.amazonaws.com/skip-pod-identity-webhook": "true"}})
    )
    assert (state, "by its objectSelector" in said) == ("broken", True)


# --- EKS Pod Identity -----------------------------------------------------------------------------------


def test_without_the_agent(world):
    """Before it is there."""
    state, said = judged(world, made(world, injected(POD_IDENTITY)), pod_identity=True)
    assert (state, "no DaemonSet kube-system/eks-pod-identity-agent" in said) == ("broken", True)
    assert judged(world, made(world, None), pod_identity=True)[0] == "unknown"
    # Nodes of EKS Auto Mode have it built in.
    path, label = f"/api/v1/nodes/{NODE}", "eks.amazonaws.com/compute-type"
    world.api("PATCH", path, {"metadata": {"labels": {label: "auto"}}})
    try:
        assert judged(world, made(world, injected(POD_IDENTITY)), pod_identity=True) == ("ok", "")
    finally:
        world.api("PATCH", path, {"metadata": {"labels": {label: None}}})


@pytest.fixture(scope="module")
def agent(world):
    """The agent, ready on one node."""
    put(world, AGENT)
    deadline = time.monotonic() + 30
    while not world.api("GET", f"{path_of(AGENT)}/eks-pod-identity-agent")["status"].get("numberReady"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield
    world.api("DELETE", f"{path_of(AGENT)}/eks-pod-identity-agent")


PROXY = "http://proxy:3128"
NO = "169.254.170.23,[fd00:ec2::23]"
POD_CASES = {
    "older than the association": (nothing, "broken", "no AWS_CONTAINER_CREDENTIALS_FULL_URI: it is older than the association"),
    "no token file": (without("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), "broken", "no AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    "the loader": (not_loading, "broken", "container load-adapters: no AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    "another audience": (token_with(audience="sts.amazonaws.com"), "broken", "for the audience sts.amazonaws.com, not for pods.eks.amazonaws.com"),
    "not mounted": (not_mounted, "broken", "nothing is mounted at"),
    "another agent": (with_env(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://10.0.0.1/"), "broken", "the agent answers at 169.254.170.23"),
    "a token of IRSA": (with_env(**IRSA["env"]), "broken", "SDKs take the token of AWS_ROLE_ARN before EKS Pod Identity"),
    "a key": (with_env(AWS_ACCESS_KEY_ID="AKIA"), "broken", "SDKs take AWS_ACCESS_KEY_ID before the role"),
    "no agent on its node": (lambda s: s.update(nodeName=OTHER_NODE), "broken", f"the agent does not run on its node {OTHER_NODE}"),
    "a proxy": (with_env(HTTP_PROXY=PROXY), "broken", "HTTP_PROXY is set, and NO_PROXY lacks 169.254.170.23"),
    "a proxy without others": (with_env(http_proxy=PROXY, no_proxy="localhost,.svc"), "broken", "NO_PROXY lacks 169.254.170.23"),
    "a proxy without the agent": (with_env(HTTP_PROXY=PROXY, NO_PROXY=NO), "ok", ""),
    "a proxy without its IPv4": (with_env(HTTP_PROXY=PROXY, NO_PROXY="169.254.170.23"), "ok", "NO_PROXY lacks [fd00:ec2::23]"),
    "a proxy without its network": (with_env(HTTP_PROXY=PROXY, NO_PROXY="169.254.0.0/16"), "unknown", "169.254.0.0/16 keeps 169.254.170.23 from the proxy"),
    "lower case counts": (with_env(HTTP_PROXY=PROXY, NO_PROXY=NO, no_proxy="x"), "broken", "NO_PROXY lacks 169.254.170.23"),
    "a proxy and IPv6": (
        with_env(everywhere=True, HTTP_PROXY=PROXY, NO_PROXY="169.254.170.23", AWS_CONTAINER_CREDENTIALS_FULL_URI="http://[fd00:ec2::23]/v1/credentials"),
        "broken", "NO_PROXY lacks [fd00:ec2::23]",
    ),
    "a proxy for HTTPS alone": (with_env(HTTPS_PROXY=PROXY), "ok", "a proxy is set, and NO_PROXY lacks 169.254.170.23"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["as injected", *POD_CASES])
def test_what_a_pod_lacks_of_pod_identity_is_named(world, agent, name):
    change, state, said = POD_CASES.get(name, (lambda _spec: None, "ok", ""))
    spec = injected(POD_IDENTITY)
    change(spec)
    found = judged(world, made(world, spec, {}), pod_identity=True)
    assert found[0] == state, found
    assert said in found[1]


def test_an_agent_that_is_not_ready(world, agent):
    name = made(world, injected(POD_IDENTITY), {})
    item = {"namespace": SPACE, "name": name, "role_arn": ROLE}
    seen = observe(Cluster({"kubeconfig": str(world.kubeconfig)}), [item], True)
    for entry in seen.agents[0]["status"]["conditions"]:
        entry["status"] = "False"
    with pytest.raises(Broken, match=f"the agent is not ready on its node {NODE}"):
        pods.judge(seen, item, True)


# --- Rights -----------------------------------------------------------------------------------------------


def connection_of(cluster, folder, namespace, name):
    """A kubeconfig: kubernetes.core keeps the client certificate of an earlier one for a connection by host and token."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("-n", namespace, "create", "token", name).stdout.strip()
    config["users"][0]["user"] = {"token": token}
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    return {"kubeconfig": str(folder / "kubeconfig")}


def test_the_listed_rights_are_enough_and_without_the_optional_ones_what_is_not_known_is_said(world, agent, tmp_path):
    world.kubectl("apply", "-f", ROOT / "docs/rbac.yaml")
    deployer = connection_of(world, tmp_path, "modelyard", "deployer")
    irsa, identity = made(world, injected(IRSA)), made(world, injected(POD_IDENTITY), {})
    assert judged(world, irsa, connection=deployer) == ("ok", "")
    assert judged(world, identity, pod_identity=True, connection=deployer) == ("ok", "")
    world.kubectl("delete", "clusterrolebinding", "modelyard")
    world.kubectl("-n", "kube-system", "delete", "rolebinding", "modelyard")
    state, said = judged(world, irsa, connection=deployer)
    assert (state, "whether a webhook injects credentials into new pods is not known: " in said) == ("ok", True)
    assert "is forbidden" in said
    assert judged(world, made(world, None), connection=deployer)[0] == "unknown"
    state, said = judged(world, identity, pod_identity=True, connection=deployer)
    assert (state, f"whether the agent runs on its node {NODE} is not known: " in said) == ("unknown", True)
    world.kubectl("-n", SPACE, "delete", "rolebinding", "modelyard")
    with pytest.raises(Exception, match=r"serviceaccounts .* is forbidden"):
        judged(world, irsa, connection=deployer)


def test_pods_that_may_not_be_listed_are_not_judged(world, tmp_path):
    seen = observe(Cluster({"kubeconfig": str(world.kubeconfig)}), [], False)
    assert isinstance(seen, Observed)
    name = made(world, None)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "some", "namespace": SPACE},
    }
    role["rules"] = [{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]}]
    world.kubectl("apply", "-f", "-", input=json.dumps(role))
    world.kubectl("-n", SPACE, "create", "rolebinding", "some", "--role=some", f"--serviceaccount={SPACE}:{name}")
    state, said = judged(world, name, connection=connection_of(world, tmp_path, SPACE, name))
    assert (state, said.startswith("its pods may not be listed: pods is forbidden")) == ("unknown", True)


def test_pods_are_listed_once_for_a_namespace(world):
    paths = []

    class Counted(Cluster):
        def request(self, method, path, *more, **rest):
            paths.append(path)
            return super().request(method, path, *more, **rest)

    items = [{"namespace": SPACE, "name": made(world, None), "role_arn": ROLE} for _ in range(3)]
    observe(Counted({"kubeconfig": str(world.kubeconfig)}), items, False)
    assert paths.count(f"/api/v1/namespaces/{SPACE}/pods") == 1
    assert len(paths) == 4 + len(items)
