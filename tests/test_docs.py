"""The documents: what they name exists, their examples work, and the listed rights are sufficient and necessary."""

import ast
import copy
import itertools
import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import check, specs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
RIGHTS = ROOT / "docs" / "rbac.yaml"
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
        text_of(document),
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


def yaml_of(document):
    merged = {}
    for language, block in FENCE.findall(text_of(document)):
        if language == "yaml":
            merged |= yaml.safe_load(block)
    return merged


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
    env = {
        "K8S_AUTH_HOST": clean_platform.url,
        "K8S_AUTH_API_KEY": clean_platform.kubectl("-n", "modelyard", "create", "token", "deployer").stdout.strip(),
        "K8S_AUTH_SSL_CA_CERT": config["clusters"][0]["cluster"]["certificate-authority"],
    }

    def run(*args, **more):
        variables = ["-e", json.dumps({"platform_connection": {}})]
        return clean_platform.playbook("site", *variables, *args, env=env, **more)

    return run


def test_the_listed_rights_deploy_the_platform(clean_platform, deployer):
    assert "failed=0" in deployer().stdout
    assert "nothing to change" in deployer().stdout
    assert "prune Deployment ml-models/judge-vllm" in deployer("-e", "vllm_judge_variant=none").stdout
    assert {item["metadata"]["name"] for item in clean_platform.get("-n", "ml-models", "deployments")["items"]} == {
        "triton-inference",
        "triton-inference-gpu",
        "vllm",
    }


def test_the_listed_rights_deploy_by_gitops(clean_platform, deployer):
    assert "failed=0" in deployer("-e", "platform_delivery=gitops").stdout
    assert clean_platform.get("-n", "argocd", "applications.argoproj.io")["items"]


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
    assert {key for key in after if after[key] != before.get(key)} <= {"Lease/argocd/modelyard"}

    comment = text_of(RIGHTS).split("# A private repository")[1].split("\n", 1)[1].split("  #\n")[0]
    role = role_of("argocd")
    role["rules"] += yaml.safe_load(comment.replace("  # ", "", 1).replace("\n  # ", "\n"))
    apply(clean_platform, [role])
    assert "failed=0" in deployer("-e", "platform_delivery=gitops", "-e", f"@{vault}").stdout
    assert clean_platform.get("-n", "argocd", "secret", "modelyard-repository")
    assert "prune Secret" in deployer("-e", "platform_delivery=gitops").stdout


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
