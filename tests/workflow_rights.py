"""What an account may really do, tried with its own token on the API server that is there: for the embedded cluster and for kind.

`deviations` is the way in. Authorization comes before everything else, so an attempt on an object that does not exist, as a
dry run, tells whether a verb is allowed and changes nothing: 403 and "cannot", or any other answer.
"""

import contextlib
import itertools
import json
import tempfile
from pathlib import Path

import urllib3
import yaml

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
NOBODY = "no-such-object"
# What Kubernetes lets every ServiceAccount ask about itself and about its issuer; more than that is nobody's by default.
HARMLESS_GROUPS = {"authentication.k8s.io", "authorization.k8s.io", "certificates.k8s.io"}
# Verbs and resources that no discovery lists.
SPECIAL = [
    ("impersonate", "", "users"),
    ("impersonate", "", "groups"),
    ("impersonate", "", "serviceaccounts"),
    ("impersonate", "authentication.k8s.io", "uids"),
    ("escalate", "rbac.authorization.k8s.io", "roles"),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles"),
    ("bind", "rbac.authorization.k8s.io", "roles"),
    ("bind", "rbac.authorization.k8s.io", "clusterroles"),
    ("approve", "certificates.k8s.io", "signers"),
    ("sign", "certificates.k8s.io", "signers"),
    ("attest", "certificates.k8s.io", "signers"),
    ("get", "", "nodes/metrics"),
    ("get", "", "nodes/stats"),
    ("get", "", "nodes/log"),
    ("get", "metrics.k8s.io", "pods"),
    ("*", "*", "*"),
]


class Account:
    """A ServiceAccount that authenticates with its own token and nothing else."""

    def __init__(self, cluster, namespace: str, name: str):
        self.name = f"{namespace}/{name}"
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        self.token = cluster.api("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        self.server = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
        self.url = cluster.url
        # The admin's CA; the admin's own certificate stays out of it.
        self.http = urllib3.PoolManager(ca_certs=cluster.http().connection_pool_kw["ca_certs"])

    def request(self, method: str, path: str, body: dict | None = None, **headers) -> tuple[int, str]:
        """One request: its status and text. The text of a watch is left out, since it has no end."""
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}", **headers}
        encoded = None if body is None else json.dumps(body)
        answer = self.http.request(
            method, self.url + path, body=encoded, headers=headers, preload_content=False, redirect=False, timeout=60
        )
        watching = "watch=true" in path and answer.status == 200
        text = "" if watching else answer.read().decode(errors="replace")
        answer.close() if watching else answer.release_conn()
        return answer.status, text

    def ask(self, kind: str, spec: dict) -> dict:
        """Ask the API server about the account itself (SelfSubjectRulesReview and the like): the review's status."""
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        status, text = self.request("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body)
        assert status == 201, text
        return json.loads(text)["status"]

    def may(self, method: str, path: str, body: dict | None = None, **headers) -> bool:
        """Whether the API server lets the account do it; what else is wrong with the request does not count."""
        status, text = self.request(method, path, body, **headers)
        assert status != 401, text
        return not (status == 403 and "cannot" in text)

    def rules(self, namespace: str) -> set[str]:
        """All that it may do in a namespace by the API server's own account, one right a line."""
        found = self.ask("SelfSubjectRulesReview", {"namespace": namespace})
        assert not found["incomplete"]
        rights = set()
        for rule in found["resourceRules"]:
            named = "".join(f" named {name}" for name in rule.get("resourceNames", []))
            for verb, group, resource in itertools.product(rule["verbs"], rule["apiGroups"], rule["resources"]):
                rights.add(right(verb, group, resource) + named)
        for rule in found["nonResourceRules"]:
            rights |= {f"{verb} {url}" for verb in rule["verbs"] for url in rule["nonResourceURLs"]}
        return rights


def right(verb: str, group: str, resource: str) -> str:
    """Word a right as tests/contract.yml does: ``patch apps/deployments``, ``get pods/log``."""
    return f"{verb} {group}{'/' if group else ''}{resource}"


def resources(cluster) -> list[tuple[str, str, dict]]:
    """Every resource and subresource that the API server serves: (API group, path of its version, what discovery says)."""
    groups = [("", "/api/v1")]
    for group in cluster.api("GET", "/apis")["groups"]:
        groups += [(group["name"], f"/apis/{version['groupVersion']}") for version in group["versions"]]
    return [(group, path, item) for group, path in groups for item in cluster.api("GET", path)["resources"]]


def attempts(path: str, item: dict, namespace: str) -> dict[str, tuple]:
    """How each verb on a resource is tried: {verb: (method, path, body)}."""
    resource, _, sub = item["name"].partition("/")
    inside = f"{path}/namespaces/{namespace}" if item["namespaced"] else path
    all_of_them = f"{inside}/{resource}"
    one = f"{all_of_them}/{NOBODY}" + (f"/{sub}" if sub else "")
    dry = "?dryRun=All"
    tried = {
        "get": ("GET", one),
        "create": ("POST", (one if sub else all_of_them) + dry, {}),
        "update": ("PUT", one + dry, {}),
        "patch": ("PATCH", one + dry, {}),
        "delete": ("DELETE", one + dry),
    }
    if not sub:
        tried["list"] = ("GET", f"{all_of_them}?limit=1")
        tried["watch"] = ("GET", f"{all_of_them}?watch=true&timeoutSeconds=1")
        tried["deletecollection"] = ("DELETE", f"{all_of_them}?dryRun=All&labelSelector={NOBODY}")
    return tried


def allowed(account: Account, cluster, namespace: str) -> set[str]:
    """Try every verb on every resource that the API server serves, in a namespace and above all of them."""
    found = set()
    for group, path, item in resources(cluster):
        for verb, request in attempts(path, item, namespace).items():
            if account.may(*request):
                found.add(right(verb, group, item["name"]))
        if item["namespaced"] and "/" not in item["name"]:
            everywhere = f"{path}/{item['name']}"
            for verb, request in {
                "list": ("GET", f"{everywhere}?limit=1"),
                "watch": ("GET", f"{everywhere}?watch=true&timeoutSeconds=1"),
            }.items():
                if account.may(*request):
                    found.add(f"{right(verb, group, item['name'])} in all namespaces")
    return found


def elsewhere(account: Account, namespace: str) -> set[str]:
    """Try what the account may do at home in another namespace, and what would give it more: what it was let do."""
    core, apps, rbac = (
        f"{group}/namespaces/{namespace}"
        for group in ("/api/v1", "/apis/apps/v1", "/apis/rbac.authorization.k8s.io/v1")
    )
    dry = "?dryRun=All"
    tried = [
        ("GET", f"{core}/pods"),
        ("GET", f"{core}/pods/{NOBODY}"),
        ("PATCH", f"{core}/pods/{NOBODY}{dry}", {}),
        ("PUT", f"{core}/pods/{NOBODY}{dry}", {}),
        ("POST", f"{core}/pods{dry}", {}),
        ("POST", f"{core}/pods/{NOBODY}/exec?command=id"),
        ("GET", f"{core}/pods/{NOBODY}/log"),
        ("GET", f"{core}/secrets"),
        ("GET", f"{core}/configmaps"),
        ("POST", f"{core}/serviceaccounts/default/token{dry}", {}),
        ("GET", f"{apps}/deployments"),
        ("PATCH", f"{apps}/deployments/{NOBODY}{dry}", {}),
        ("POST", f"{rbac}/rolebindings{dry}", {}),
    ]
    return {f"{method} {path}" for method, path, *body in tried if account.may(method, path, *body)}


def others(account: Account, namespace: str) -> set[str]:
    """Try to be somebody else, verbs that no discovery lists, and addresses that are no resource: what it was let do."""
    found = set()
    for user in ("system:admin", f"system:serviceaccount:{namespace}:vllm-sa"):
        if account.may("GET", "/version", **{"Impersonate-User": user}):
            found.add(f"impersonate {user}")
    for (verb, group, resource), scope in itertools.product(SPECIAL, (namespace, "")):
        name, _, sub = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": name, "subresource": sub, "namespace": scope}
        if account.ask("SelfSubjectAccessReview", {"resourceAttributes": asked})["allowed"]:
            found.add(right(verb, group, resource) + ("" if scope else " in all namespaces"))
    found |= {f"get {url}" for url in ("/metrics", "/logs/", "/configz", "/debug/pprof/") if account.may("GET", url)}
    return found


def changes(account: Account, cluster, namespace: str, deployment: str) -> list[str]:
    """Do for real what the account may do to a Deployment and one of its pods, and undo it: what did not work."""
    found = []
    pods, deployments = f"/api/v1/namespaces/{namespace}/pods", f"/apis/apps/v1/namespaces/{namespace}/deployments"
    (pod, *_) = cluster.api("GET", f"{pods}?labelSelector=app%3D{deployment}")["items"]
    mark = "workflow-rights"
    for path in (f"{pods}/{pod['metadata']['name']}", f"{deployments}/{deployment}"):
        for value in ("tried", None):
            status, text = account.request("PATCH", path, {"metadata": {"annotations": {mark: value}}})
            seen = json.loads(text).get("metadata", {}).get("annotations", {}).get(mark)
            if (status, seen) != (200, value):
                found.append(f"patch {path}: {status} {text}")
    path = f"{pods}/{pod['metadata']['name']}"
    for value in ("tried", None):
        status, text = update(account, path, mark, value)
        if status != 200:
            found.append(f"update {path}: {status} {text}")
    return found


def update(account: Account, path: str, mark: str, value: str | None) -> tuple[int, str]:
    """Read an object, set or remove an annotation, write it back; anew while another writer comes between."""
    for _ in range(20):
        status, text = account.request("GET", path)
        if status != 200:
            break
        whole = json.loads(text)
        annotations = whole["metadata"].get("annotations", {})
        whole["metadata"]["annotations"] = {k: v for k, v in {**annotations, mark: value}.items() if v is not None}
        status, text = account.request("PUT", path, whole)
        if status != 409:
            break
    return status, text


@contextlib.contextmanager
def kubeconfig(account: Account):
    """A kubeconfig with the account's token and nothing else, gone afterwards."""
    entries = {
        "clusters": [{"name": "c", "cluster": account.server}],
        "users": [{"name": "u", "user": {"token": account.token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kubeconfig"
        file.touch(0o600)
        file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **entries}))
        yield file


def inside(account: Account, cluster, namespace: str, deployment: str, container: str) -> list[str]:
    """Run a command in a real container, and read its log, with the account's token: what did not work."""
    found = []
    with kubeconfig(account) as file:
        kubectl = [cluster.bin / "kubectl", "--kubeconfig", file, "--namespace", namespace]
        pod = cluster.api("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{deployment}")["items"][-1]
        name = pod["metadata"]["name"]
        done = cluster.run(*kubectl, "exec", name, "--container", container, "--", "echo", "here", check=False)
        if done.stdout.strip() != "here":
            found.append(f"kubectl exec {name}: {done.stdout}{done.stderr}")
        done = cluster.run(*kubectl, "logs", name, "--container", container, "--tail=1", check=False)
        if done.returncode or not done.stdout:
            found.append(f"kubectl logs {name}: {done.stdout}{done.stderr}")
        for refused in (["delete", "pod", name, "--dry-run=server"], ["port-forward", f"pod/{name}", ":8000"]):
            done = cluster.run(*kubectl, *refused, check=False, timeout=60)
            if done.returncode == 0 or "forbidden" not in done.stderr.lower():
                found.append(f"kubectl {refused[0]} {name} was not refused: {done.stdout}{done.stderr}")
    return found


def deviations(
    cluster, rights, namespace="ml-models", name="workflow-sa", deployment="vllm", container: str | None = None
) -> list[str]:
    """Compare what an account may do with what it should be able to do, each verb tried with its own token.

    Args:
        cluster: a running cluster (``Cluster`` of conftest.py): ``api``, ``http``, ``run``, ``url``, ``kubeconfig``, ``bin``.
        rights: what it should be able to do in its namespace, one right a line, as in tests/contract.yml.
        namespace: its namespace.
        name: the ServiceAccount.
        deployment: a Deployment there with pods that run, whose label ``app`` is its name.
        container: a real container of these pods, to run a command in and to read the log of; none on simulated nodes.

    Returns:
        what differs, one line each; nothing if all is as it should be.
    """
    rights = set(rights)
    account, anyone = Account(cluster, namespace, name), Account(cluster, namespace, "default")
    found = []

    def compare(what: str, actual: set[str], wanted: set[str]) -> None:
        found.extend(f"{what}: may {line}, and should not" for line in sorted(actual - wanted))
        found.extend(f"{what}: may not {line}, and should" for line in sorted(wanted - actual))

    base = anyone.rules(namespace)
    groups = {line.split(" ")[1].split("/")[0] for line in base if not line.split(" ")[1].startswith("/")}
    compare("every account", groups, groups & HARMLESS_GROUPS)
    compare("by its rules", account.rules(namespace), base | rights)
    compare("tried", allowed(account, cluster, namespace), rights | (base & known(cluster)))
    for item in cluster.api("GET", "/api/v1/namespaces")["items"]:
        other = item["metadata"]["name"]
        if other != namespace:
            compare(f"by its rules in {other}", account.rules(other), anyone.rules(other))
            compare(f"tried in {other}", elsewhere(account, other), set())
    compare("tried", others(account, namespace), set())
    # Only an account that may do it all can undo what it did.
    if not found:
        found += changes(account, cluster, namespace, deployment)
        found += inside(account, cluster, namespace, deployment, container) if container else []
    return found


def known(cluster) -> set[str]:
    """Every right on what the API server serves."""
    return {right(verb, group, item["name"]) for group, _, item in resources(cluster) for verb in VERBS}
