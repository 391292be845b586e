"""A real Argo CD: its controllers, built from its Go module, on a test control plane, with a local Git repository.

All tests share one Argo CD. Each starts with the platform as it is in Git (`platform`). The pods are simulated by kwok.
"""

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from services import free_port

NAMESPACE = "ml-models"
SERVERS = ("triton-inference", "triton-inference-gpu", "vllm", "judge-vllm")
APPLICATIONS = {
    "triton-inference-cpu",
    "triton-inference-gpu",
    "vllm-inference",
    "vllm-inference-judge",
    "ml-models-shared",
}
TRACKING = "argocd.argoproj.io/tracking-id"
# Much more than a quiet machine needs.
PATIENCE = 180
# A sync that fails is tried again quickly here, so that the next commit is not waited for.
RETRY = {"limit": 1, "backoff": {"duration": "1s", "factor": 1, "maxDuration": "1s"}}


# --- Argo CD ---------------------------------------------------------------------------------------


def wait_for(what, condition, explain=lambda: ""):
    """Poll until `condition()` is true, and return what it gave; a failure says what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {PATIENCE} s not: {what}\n{explain()}", pytrace=False)
        time.sleep(1)
    return found


class Git:
    """A bare repository, as a Git server would hold it, and a checkout to commit from."""

    def __init__(self, cluster, home: Path):
        self.cluster, self.work = cluster, home / "work"
        self.url = f"file://{home / 'repository.git'}"
        cluster.run("git", "init", "--quiet", "--bare", "--initial-branch=main", home / "repository.git")
        cluster.run("git", "clone", "--quiet", self.url, self.work)
        self("switch", "--quiet", "--create", "main")

    def __call__(self, *args):
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
        return self.cluster.run("git", "-C", self.work, *who, *args).stdout.strip()

    def push(self, message="A change"):
        """Commit all that differs, and push; returns the commit."""
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", "--message", message)
        self("push", "--quiet", "origin", "main")
        return self.head()

    def head(self):
        return self("rev-parse", "HEAD")

    def restore(self):
        """Push the tree as it was rendered, where it differs from that."""
        self("rm", "-rq", "--ignore-unmatch", ".")
        self("clean", "-fdq")
        self("checkout", "--quiet", "rendered", "--", ".")
        if self("status", "--porcelain"):
            self.push("As rendered")

    def file(self, folder, kind) -> Path:
        """The one file of a kind in a folder of the tree."""
        files = sorted((self.work / "infra" / "k8s" / folder).glob("*.yaml"))
        (found,) = [file for file in files if yaml.safe_load(file.read_text()).get("kind") == kind]
        return found

    def change(self, folder, kind, change):
        """Rewrite one object; not pushed yet."""
        file = self.file(folder, kind)
        item = yaml.safe_load(file.read_text())
        change(item)
        file.write_text(yaml.safe_dump(item))

    def annotate(self, folder, kind, key, value):
        self.change(folder, kind, lambda item: item["metadata"].setdefault("annotations", {}).update({key: value}))


class ArgoCD:
    """Redis, the repo server and the two controllers, as processes of this test run."""

    def __init__(self, cluster, home: Path):
        self.cluster, self.home = cluster, home
        self.program = Path(cluster.control("argocd").stdout.strip())
        self.kustomize = Path(cluster.control("kustomize").stdout.strip())
        self.processes: dict[str, subprocess.Popen] = {}

    @contextlib.contextmanager
    def running(self):
        """Started inside; gone after, also when the start failed half-way."""
        if not shutil.which("redis-server"):
            pytest.fail(
                "redis-server is missing: install Debian's package redis-server, as .ci/run does", pytrace=False
            )
        baseline = self.cluster.baseline
        try:
            self._configure()
            # Argo CD's own configuration outlives a reset of the cluster, as long as it runs.
            self.cluster.baseline = {key for key, _, _ in self.cluster.objects()}
            self._start()
            yield self
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()
            self.cluster.baseline = baseline
            self.cluster.reset()

    def _configure(self):
        apply = ("apply", "--server-side", "--namespace", "argocd", "-f")
        for file in (self.program.parent / "argocd-config").glob("argocd-*.yaml"):
            self.cluster.kubectl(*apply, file)
        # Otherwise made by argocd-server, which nothing here needs.
        project = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "default"}}
        every = {"group": "*", "kind": "*"}
        project["spec"] = {
            "sourceRepos": ["*"],
            "destinations": [{"namespace": "*", "server": "*"}],
            "clusterResourceWhitelist": [every],
        }
        self.cluster.kubectl(*apply, "-", input=json.dumps(project))

    def _start(self):
        redis, repo, webhook, *metrics = (free_port() for _ in range(6))
        cache, server = f"127.0.0.1:{redis}", f"127.0.0.1:{repo}"
        bind = ("--bind", "127.0.0.1", "--port", redis)
        self._run("redis-server", *bind, "--save", "", "--appendonly", "no", "--dir", self.home)
        listen = (
            "--address",
            "127.0.0.1",
            "--port",
            repo,
            "--metrics-address",
            "127.0.0.1",
            "--metrics-port",
            metrics[0],
        )
        # What a branch's newest commit is stays in its cache for minutes otherwise.
        newest = ("--revision-cache-expiration", "2s")
        self._run("argocd-repo-server", "--redis", cache, "--disable-tls", *newest, *listen)
        plain = ("--repo-server-plaintext", "--repo-server", server)
        every = ("--app-resync", "10", "--app-resync-jitter", "0", "--metrics-port", metrics[1])
        self._run("argocd-application-controller", "--namespace", "argocd", "--redis", cache, *plain, *every)
        plain = ("--repo-server-plaintext", "--argocd-repo-server", server)
        listen = (
            "--metrics-addr",
            f"127.0.0.1:{metrics[2]}",
            "--probe-addr",
            "0",
            "--webhook-addr",
            f"127.0.0.1:{webhook}",
        )
        self._run("argocd-applicationset-controller", "--namespace", "argocd", *plain, *listen)

    def _run(self, name, *args):
        folders = {
            "ARGOCD_TLS_DATA_PATH": "tls",
            "ARGOCD_SSH_DATA_PATH": "ssh",
            "ARGOCD_PLUGINSOCKFILEPATH": "plugins",
            "ARGOCD_APP_CONF_PATH": "config",
            "TMPDIR": "tmp",
        }
        env = {**self.cluster.env, "KUBECONFIG": str(self.cluster.kubeconfig)}
        env |= {"ARGOCD_FAKE_IN_CLUSTER": "true", "ARGOCD_GPG_ENABLED": "false", "HOME": str(self.home)}
        env["PATH"] = f"{self.kustomize.parent}{os.pathsep}{env['PATH']}"
        for variable, folder in folders.items():
            (self.home / folder).mkdir(exist_ok=True)
            env[variable] = str(self.home / folder)
        program = name
        if name != "redis-server":
            # It acts by the name that it is called by, as in its image; what it writes to the cluster bears that name too.
            program = self.home / name
            program.symlink_to(self.program)
        with (self.home / f"{name}.log").open("w") as log:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in (program, *args)],
                env=env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """What each process said last, and which are gone."""
        texts = []
        for name, process in self.processes.items():
            lines = (self.home / f"{name}.log").read_text().splitlines()
            state = "runs" if process.poll() is None else f"ended with {process.returncode}"
            texts.append(f"--- {name} ({state})\n" + "\n".join(line[:400] for line in lines[-15:]))
        return "\n".join(texts)


class Platform:
    """The platform on a cluster, delivered from Git by Argo CD."""

    def __init__(self, cluster, argocd, git):
        self.cluster, self.argocd, self.git = cluster, argocd, git
        self.deployed: dict | None = None

    def run(self, playbook="site", delivery="gitops", args=(), **variables):
        """Run a playbook on this cluster; returns what it said, as one line."""
        given = {"platform_delivery": delivery, "argocd_apps_repo_url": self.git.url, "argocd_apps_retry": RETRY}
        self.deployed = None
        done = self.cluster.playbook(playbook, "-e", json.dumps({**given, **variables}), *args)
        return " ".join((done.stdout + done.stderr).split())

    def deploy(self, **variables):
        """Run site.yml, unless that is what ran last; returns what it said."""
        if self.deployed == variables:
            return ""
        said = self.run(**variables)
        self.deployed = variables
        return said

    def reset(self):
        """Go back to where every test begins."""
        self.git.restore()
        self.deploy()
        self.synced(*APPLICATIONS)
        self.rolled_out()

    def applications(self) -> dict[str, dict]:
        items = self.cluster.api("GET", "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications")["items"]
        return {item["metadata"]["name"]: item for item in items}

    def refresh(self, *names):
        """Have Argo CD look at Git now, as its webhook would."""
        # Not with kubectl, whose ownership of the annotation the next run would take back.
        asked = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
        for name in names:
            self.cluster.api("PATCH", f"/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/{name}", asked)

    def synced(self, *names):
        """Wait until Argo CD has synced these Applications to the newest commit, and there are no others."""
        head = self.git.head()

        def there():
            found = self.applications()
            return set(found) == set(names) and all(
                item.get("status", {}).get("sync", {}).get("status") == "Synced"
                # It has looked: until then the request would be a manual edit to the next run.
                and "argocd.argoproj.io/refresh" not in item["metadata"].get("annotations", {})
                and item["status"]["sync"]["revision"] == head
                # A sync that failed stays the last one when the next commit asks for nothing new.
                and item["status"].get("operationState", {}).get("phase") != "Running"
                for item in found.values()
            )

        if set(names) <= set(self.applications()):
            self.refresh(*names)
        wait_for(f"{sorted(names)} synced to {head}", there, self.explain)

    def explain(self) -> str:
        lines = []
        for name, item in self.applications().items():
            status = item.get("status", {})
            operation = status.get("operationState", {})
            lines.append(
                f"{name}: {status.get('sync', {}).get('status')} {status.get('sync', {}).get('revision')} "
                f"{operation.get('phase')} {operation.get('message')} {status.get('conditions')}"
            )
        return "\n".join([*lines, self.argocd.said()])

    def until(self, what, condition):
        return wait_for(what, condition, self.explain)

    def find(self, kind, name, cluster=None) -> dict:
        """An object, or {} when there is none."""
        form = ("-o", "json", "--show-managed-fields", "--ignore-not-found")
        done = (cluster or self.cluster).kubectl("get", kind, name, "-n", NAMESPACE, *form)
        return json.loads(done.stdout or "{}")

    def annotation(self, kind, name, key):
        return self.find(kind, name).get("metadata", {}).get("annotations", {}).get(key)

    def rolled_out(self, servers=SERVERS):
        """Wait until the Deployments have the pods that they want."""

        def there():
            items = self.cluster.api("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments")["items"]
            ready = {
                item["metadata"]["name"]
                for item in items
                if item["status"].get("observedGeneration") == item["metadata"]["generation"]
                and item["status"].get("readyReplicas", 0)
                == item["status"].get("replicas", 0)
                == item["spec"]["replicas"]
            }
            return set(servers) <= ready

        self.until(f"{servers} rolled out", there)

    def pods(self, *apps) -> set[str]:
        """UIDs of the pods of some servers, or of all."""
        items = self.cluster.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
        return {
            item["metadata"]["uid"]
            for item in items
            if item["metadata"]["labels"].get("app") in (apps or SERVERS)
            and "deletionTimestamp" not in item["metadata"]
        }

    def ours(self) -> dict[str, dict]:
        """Everything of ours in ml-models, by kind and name, without the records of releases."""
        return {
            key: item
            for key, _, item in self.cluster.objects()
            if key.split("/")[1] == NAMESPACE
            and item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "modelyard"
            and "ownerReferences" not in item["metadata"]
            and not key.startswith(("Lease/", "Endpoints/"))
            and item["metadata"]["labels"].get("modelyard/component") != "release"
        }

    def contents(self) -> dict[str, dict]:
        """What everything of ours says, metadata and status apart: a Deployment's generation counts annotations too."""
        return {
            key: {name: value for name, value in item.items() if name not in {"metadata", "status"}}
            for key, item in self.ours().items()
        }


def managers(item) -> set[str]:
    """Who owns fields of an object, its status apart."""
    return {entry["manager"] for entry in item["metadata"]["managedFields"] if entry.get("subresource") != "status"}


def without(kind):
    """Take a kind out of a kustomization."""

    def change(item):
        item["resources"] = [name for name in item["resources"] if name != kind]

    return change


@pytest.fixture(scope="module")
def delivered(cluster, tmp_path_factory):
    """Argo CD, and the rendered tree in Git."""
    home = tmp_path_factory.mktemp("argocd")
    cluster.reset()
    git = Git(cluster, home)
    cluster.playbook("render", "-e", json.dumps({"tree_repository": str(git.work)}))
    git.push("As rendered")
    git("tag", "rendered")
    with ArgoCD(cluster, home).running() as argocd:
        yield Platform(cluster, argocd, git)


@pytest.fixture
def platform(delivered):
    """The platform as Git has it, synced and rolled out."""
    delivered.reset()
    return delivered


# --- A fresh cluster -------------------------------------------------------------------------------


def test_the_documents_root_application_brings_the_platform_to_a_fresh_cluster(delivered):
    """First of all: nothing of ours is there yet, not even the namespace."""
    assert NAMESPACE not in delivered.cluster.namespaces()
    root = root_application()
    project = {"argocd_apps_project": "modelyard", "argocd_apps_project_create": True}
    delivered.run("render", tree_repository=str(delivered.git.work), **project)
    delivered.git.push()
    root["spec"]["source"]["repoURL"] = delivered.git.url
    delivered.cluster.kubectl("apply", "-f", "-", input=json.dumps(root))
    delivered.until("the Applications", lambda: set(delivered.applications()) > APPLICATIONS)
    delivered.synced("modelyard", *APPLICATIONS)
    delivered.rolled_out()
    assert {item["spec"]["project"] for name, item in delivered.applications().items() if name != "modelyard"} == {
        "modelyard"
    }
    pods = delivered.pods()
    # Without a finalizer, what it delivered outlives it, and goes over to the playbook.
    delivered.cluster.kubectl("delete", "application", "modelyard", "-n", "argocd")
    delivered.git.restore()
    delivered.run(args=("-e", "apply_force=true"))
    delivered.synced(*APPLICATIONS)
    assert "nothing to change" in delivered.run()
    assert delivered.pods() == pods


def root_application() -> dict:
    text = (ROOT / "docs/gitops.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (found,) = [item for item in map(yaml.safe_load, blocks) if item["kind"] == "Application"]
    return found


# --- Git is what the cluster has -------------------------------------------------------------------


def test_a_commit_reaches_the_cluster_and_only_what_it_changes(platform):
    before = platform.cluster.resource_versions()
    platform.git.annotate("vllm/judge", "Service", "example.com/release", "two")
    platform.git.push()
    platform.synced(*APPLICATIONS)
    assert platform.annotation("service", "judge-vllm-service", "example.com/release") == "two"
    after = platform.cluster.resource_versions()
    changed = {key for key in after if before.get(key) != after[key] and key.split("/")[1] == NAMESPACE}
    assert changed - {"Endpoints/ml-models/judge-vllm-service"} == {"Service/ml-models/judge-vllm-service"}


def test_a_manual_edit_is_reverted_and_what_is_deleted_comes_back(platform):
    # Before that, nothing differs: neither what Argo CD applies, nor what it notes for itself.
    assert re.search(r"cluster local: no drift, 3\d objects compared", platform.run("diff", diff_aws=False))
    port = [{"op": "replace", "path": "/spec/ports/1/targetPort", "value": 9099}]
    service = ("service", "vllm-service")
    before = platform.find(*service)["spec"]
    platform.cluster.kubectl("patch", "-n", NAMESPACE, *service, "--type=json", "-p", json.dumps(port))
    platform.cluster.kubectl("delete", "-n", NAMESPACE, "prometheusrule", "vllm")
    platform.until("the edit reverted", lambda: platform.find(*service)["spec"] == before)
    platform.until("the rule back", lambda: platform.find("prometheusrule", "vllm"))


def test_a_port_whose_number_was_changed_by_hand_is_told_with_the_way_out(platform):
    """Argo CD can't revert it; a run can't either, since it has no rights to what Argo CD delivers."""
    service = ("service", "vllm-service")
    before = platform.find(*service)["spec"]["ports"]
    port = [{"op": "replace", "path": "/spec/ports/0/port", "value": 9099}]
    platform.cluster.kubectl("patch", "-n", NAMESPACE, *service, "--type=json", "-p", json.dumps(port))

    def state():
        return platform.applications()["vllm-inference"]["status"].get("operationState", {})

    platform.until("Argo CD's failure", lambda: "Duplicate value" in state().get("message", ""))
    said = platform.run(args=("--check",))
    assert "Argo CD could not sync Application argocd/vllm-inference" in said
    # As they stand, in a shell; without the second, Argo CD would not try this commit again.
    delete, sync = re.search(
        r"(kubectl -n ml-models delete service vllm-service); (kubectl -n argocd patch .*?\}\}')", said
    ).groups()
    for command in (delete, sync):
        platform.cluster.kubectl(*shlex.split(command)[1:])
    platform.until("the Service as in Git", lambda: platform.find(*service).get("spec", {}).get("ports") == before)


def test_a_file_that_goes_takes_its_object_with_it(platform):
    pods = platform.pods()
    rule = platform.git.file("vllm/base", "PrometheusRule")
    rule.unlink()
    platform.git.change("vllm/base", "Kustomization", without(rule.name))
    platform.git.push()
    platform.until("the rule gone", lambda: not platform.find("prometheusrule", "vllm"))
    platform.synced(*APPLICATIONS)
    assert platform.pods() == pods


def test_a_broken_manifest_is_told_and_the_old_state_stays(platform):
    deployment, pods = platform.find("deployment", "vllm"), platform.pods()

    def told(text):
        status = platform.applications()["vllm-inference"]["status"]
        return text in json.dumps([status.get("conditions"), status.get("operationState", {}).get("message")])

    file = platform.git.file("vllm/base", "Deployment")
    good = file.read_text()
    file.write_text(good + "\n  not: [yaml")
    platform.git.push()
    platform.refresh("vllm-inference")
    platform.until("the broken file told", lambda: told("ComparisonError"))

    file.write_text(good)
    platform.git.change("vllm/base", "Deployment", lambda item: item["spec"].update(replicas="many"))
    platform.git.push()
    platform.refresh("vllm-inference")
    platform.until("the wrong value told", lambda: told("replicas"))

    live = platform.find("deployment", "vllm")
    assert (live["metadata"]["uid"], live["spec"]) == (deployment["metadata"]["uid"], deployment["spec"])
    assert platform.pods() == pods


# --- The judge -------------------------------------------------------------------------------------


def test_the_judge_changes_hands_and_vllm_is_not_touched(platform):
    vllm = platform.pods("vllm", "triton-inference", "triton-inference-gpu")
    versions = {key: item["metadata"]["resourceVersion"] for key, item in platform.ours().items() if "/vllm" in key}
    judge = platform.find("deployment", "judge-vllm")

    said = platform.deploy(vllm_judge_variant="judge-large")
    assert "prune Application argocd/vllm-inference-judge; what it deployed stays" in said
    now = APPLICATIONS - {"vllm-inference-judge"} | {"vllm-inference-judge-large"}
    platform.synced(*now)
    platform.rolled_out()

    large = platform.find("deployment", "judge-vllm")
    assert large["metadata"]["uid"] == judge["metadata"]["uid"]
    assert "--tensor-parallel-size=4" in json.dumps(large["spec"])
    mine = [item for key, item in platform.ours().items() if "/judge-vllm" in key]
    assert {item["metadata"]["annotations"][TRACKING].split(":")[0] for item in mine} == {"vllm-inference-judge-large"}
    assert platform.pods("vllm", "triton-inference", "triton-inference-gpu") == vllm
    after = {key: item["metadata"]["resourceVersion"] for key, item in platform.ours().items() if "/vllm" in key}
    # The controllers write a Deployment's status when they like.
    assert {key for key in after if after[key] != versions[key]} <= {"Deployment/ml-models/vllm"}


def test_a_judge_that_is_turned_off_is_gone_and_nothing_else(platform):
    before, pods = set(platform.ours()), platform.pods("vllm", "triton-inference", "triton-inference-gpu")
    said = platform.deploy(vllm_judge_variant="none")
    assert "prune Application argocd/vllm-inference-judge, and Argo CD removes what it deployed" in said
    kept = {key for key in before if "/judge-vllm" not in key}
    platform.until("the judge gone", lambda: set(platform.ours()) == kept)
    platform.until("its pods gone", lambda: not platform.pods("judge-vllm"))
    platform.synced(*APPLICATIONS - {"vllm-inference-judge"})
    assert platform.pods("vllm", "triton-inference", "triton-inference-gpu") == pods
    contents, again = platform.contents(), platform.run(vllm_judge_variant="none")
    assert "nothing to change" in again
    assert platform.contents() == contents


def test_an_application_that_is_turned_off_can_leave_everything(platform):
    before, pods = set(platform.ours()), platform.pods()
    # The server is on, only its Application is not; and a server that is off, where the inventory says to keep it.
    platform.deploy(argocd_apps_profiles={"vllm": []}, triton_enabled_profiles=["cpu"], argocd_apps_cascade=False)
    platform.synced(*APPLICATIONS - {"vllm-inference", "triton-inference-gpu"})
    assert set(platform.ours()) == before
    assert platform.pods() == pods


def test_with_the_finalizer_whoever_deletes_an_application_removes_what_it_deployed(platform):
    platform.deploy(argocd_apps_overrides={"triton-inference-gpu": {"finalizer": True}})
    platform.cluster.kubectl("delete", "application", "triton-inference-gpu", "-n", "argocd", "--wait=false")
    platform.until("the server gone", lambda: not platform.find("deployment", "triton-inference-gpu"))
    platform.until("the Application gone", lambda: "triton-inference-gpu" not in platform.applications())
    assert platform.find("deployment", "triton-inference")
    # As it was for the next test: its Application is made anew.
    platform.deployed = None


def test_a_parked_judge_can_be_woken_and_parking_by_git_works(platform):
    judge = ("deployment", "judge-vllm")

    def replicas():
        return platform.find(*judge)["spec"]["replicas"]

    # An operator parks it: neither self-healing nor a commit wakes it, and what else is in that arrives.
    assert "judge-vllm: its pods are gone" in platform.run("park", park_reason="night")
    platform.git.annotate("vllm/judge", "Deployment", "example.com/release", "one")
    platform.git.push()
    platform.until("the commit synced", lambda: platform.annotation(*judge, "example.com/release") == "one")
    platform.synced(*APPLICATIONS)
    assert replicas() == 0
    assert "night" in platform.annotation(*judge, "modelyard/parked")
    # Waking gives the number of pods back to Git.
    assert "wake judge-vllm: 1 pod (parked by" in platform.run("wake")
    assert replicas() == 1
    assert "modelyard-park" not in managers(platform.find(*judge))

    # The Application knows before Git does: the order that would leave a judge running if its replicas were ignored.
    platform.deploy(vllm_judge_parked=True)
    platform.git.change("vllm/judge", "Deployment", lambda item: item["spec"].update(replicas=0))
    platform.git.push()
    platform.synced(*APPLICATIONS)
    assert replicas() == 0
    # A workflow wakes it; neither self-healing nor a later sync parks it.
    platform.cluster.kubectl("scale", "-n", NAMESPACE, *judge, "--replicas=1")
    platform.git.annotate("vllm/judge", "Deployment", "example.com/release", "two")
    platform.git.push()
    platform.until("the commit synced", lambda: platform.annotation(*judge, "example.com/release") == "two")
    platform.synced(*APPLICATIONS)
    assert replicas() == 1


def test_an_autoscalers_replicas_stay_when_git_stops_setting_them(platform):
    vllm = ("deployment", "vllm")
    platform.deploy(vllm_autoscaled=True)
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/vllm/scale"
    platform.cluster.api("PATCH", f"{path}?fieldManager=kube-controller-manager", {"spec": {"replicas": 2}})
    platform.git.change("vllm/base", "Deployment", lambda item: item["spec"].pop("replicas"))
    platform.git.annotate("vllm/base", "Deployment", "example.com/release", "two")
    platform.git.push()
    platform.until("the commit synced", lambda: platform.annotation(*vllm, "example.com/release") == "two")
    platform.synced(*APPLICATIONS)
    assert platform.find(*vllm)["spec"]["replicas"] == 2


# --- The project -----------------------------------------------------------------------------------


def test_a_project_of_our_own_allows_the_platform_and_nothing_else(platform):
    pods = platform.pods()
    platform.deploy(argocd_apps_project="modelyard", argocd_apps_project_create=True)
    platform.synced(*APPLICATIONS)
    assert platform.pods() == pods
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}}
    (platform.git.work / "infra" / "k8s" / "shared" / "foreign.yaml").write_text(yaml.safe_dump(foreign))
    platform.git.change("shared", "Kustomization", lambda item: item["resources"].append("foreign.yaml"))
    platform.git.push()
    platform.refresh("ml-models-shared")
    platform.until(
        "the foreign kind refused",
        lambda: (
            "not permitted in project modelyard" in json.dumps(platform.applications()["ml-models-shared"]["status"])
        ),
    )
    assert not platform.find("secret", "foreign")


# --- Moving over -----------------------------------------------------------------------------------


def test_moving_back_and_over_restarts_nothing(platform):
    pods, contents = platform.pods(), platform.contents()

    said = platform.run("handover", delivery="direct")
    assert "remove Application argocd/vllm-inference; what it deployed stays" in said
    assert platform.applications() == {}
    ours = platform.ours()
    assert ours.keys() == contents.keys()
    assert {key: found for key, item in ours.items() if "argocd" in str(found := managers(item))} == {}
    assert not any(TRACKING in item["metadata"].get("annotations", {}) for item in ours.values())
    assert all("modelyard" in managers(item) for item in ours.values())
    assert platform.pods() == pods
    assert platform.contents() == contents
    assert "nothing to change" in platform.run(delivery="direct")

    said = platform.run("handover")
    assert "hand over Deployment ml-models/vllm" in said
    platform.synced(*APPLICATIONS)
    ours = platform.ours()
    assert ours.keys() == contents.keys()
    assert {key for key, item in ours.items() if "modelyard" in managers(item)} == set()
    assert all("argocd-controller" in managers(item) for item in ours.values())
    assert platform.pods() == pods
    assert platform.contents() == contents
    assert "changed=0" in platform.run("handover")

    # What Git drops is really gone: no former owner keeps it.
    platform.git.change("vllm/judge", "Service", lambda item: item["spec"]["ports"].pop())
    platform.git.push()
    platform.until("the port gone", lambda: len(platform.find("service", "judge-vllm-service")["spec"]["ports"]) == 1)


def test_moving_over_keeps_what_git_does_not_set(platform):
    platform.run("handover", delivery="direct")
    platform.git.change("vllm/judge", "Service", lambda item: item["metadata"]["labels"].pop("modelyard/component"))
    platform.git.push()
    given = {"platform_delivery": "gitops", "argocd_apps_repo_url": platform.git.url, "argocd_apps_retry": RETRY}
    done = platform.cluster.playbook("handover", "-e", json.dumps(given), check=False)
    said = " ".join((done.stdout + done.stderr).split())
    platform.deployed = None
    assert done.returncode
    assert "Service ml-models/judge-vllm-service: metadata.labels.modelyard/component" in said
    assert "modelyard" in managers(platform.find("service", "judge-vllm-service"))


# --- Many clusters ---------------------------------------------------------------------------------


def test_a_set_delivers_to_two_clusters(platform, other_cluster, tmp_path):
    pods = platform.pods()
    with other_cluster.running():
        config = yaml.safe_load(other_cluster.kubeconfig.read_text())
        user, server = config["users"][0]["user"], config["clusters"][0]["cluster"]

        def encoded(path):
            return base64.b64encode(Path(path).read_bytes()).decode()

        tls = {
            "caData": encoded(server["certificate-authority"]),
            "certData": encoded(user["client-certificate"]),
            "keyData": encoded(user["client-key"]),
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "second",
                "namespace": "argocd",
                "labels": {"argocd.argoproj.io/secret-type": "cluster", "env": "second"},
            },
            "stringData": {
                "name": "second",
                "server": other_cluster.url,
                "config": json.dumps({"tlsClientConfig": tls}),
            },
        }
        platform.cluster.kubectl("apply", "-f", "-", input=json.dumps(secret))
        hosts = tmp_path / "hosts.json"

        def second(**variables):
            inventory = {"others": {"hosts": {"second": {"argocd_apps_destination_name": "second", **variables}}}}
            hosts.write_text(json.dumps(inventory))
            return platform.run(args=("-i", hosts), argocd_apps_generator="list", argocd_apps_hosts=["local", "second"])

        # From single Applications to sets, with a second cluster that has something else on.
        second(triton_enabled_profiles=["cpu"], vllm_enabled=False, vllm_judge_variant="judge")
        here = {f"local-{name}" for name in APPLICATIONS}
        there = {"second-triton-inference-cpu", "second-vllm-inference-judge", "second-ml-models-shared"}
        platform.synced(*here, *there)
        assert platform.pods() == pods
        assert platform.find("deployment", "triton-inference", other_cluster)
        assert platform.find("deployment", "judge-vllm", other_cluster)
        assert not platform.find("deployment", "vllm", other_cluster)
        assert platform.applications()["second-vllm-inference-judge"]["spec"]["destination"] == {
            "name": "second",
            "namespace": NAMESPACE,
        }

        # The judge is turned off on the second cluster only.
        said = second(triton_enabled_profiles=["cpu"], vllm_enabled=False)
        assert "prune Application argocd/second-vllm-inference-judge, and Argo CD removes" in said
        platform.until("the judge gone", lambda: not platform.find("deployment", "judge-vllm", other_cluster))
        platform.synced(*here, *there - {"second-vllm-inference-judge"})
        assert platform.find("deployment", "triton-inference", other_cluster)
        assert platform.pods() == pods

        # And back to single ones, of this cluster; the other's are no longer wanted.
        platform.reset()
        assert platform.pods() == pods
        platform.until("the other empty", lambda: not platform.find("deployment", "triton-inference", other_cluster))

        # By Argo CD's Secrets: no inventory knows the second cluster.
        platform.run(
            argocd_apps_generator="clusters",
            argocd_apps_cluster_selector={"env": "second"},
            triton_enabled_profiles=["cpu"],
            vllm_enabled=False,
            vllm_judge_variant="none",
        )
        platform.synced("second-triton-inference-cpu", "second-ml-models-shared")
        assert platform.find("deployment", "triton-inference", other_cluster)
        platform.cluster.kubectl("delete", "secret", "second", "-n", "argocd")
        platform.until("no Applications", lambda: not platform.applications())
