"""The local cluster as a user sees it: what is on it, that `up` is idempotent and repairs, and that `down` leaves nothing."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The tables of the platform's contract: profile -> nodes, instance type, allocatable mCPU and MiB, GPUs, taint.
POOLS = {
    "cpu-compute": (2, "m6i.2xlarge", 7910, 29317, 0, ("workload", "cpu-compute")),
    "gpu": (1, "g4dn.2xlarge", 7910, 29636, 1, ("nvidia.com/gpu", None)),
    "gpu-vllm": (2, "g5.xlarge", 3920, 14162, 1, ("nvidia.com/gpu", None)),
    "gpu-vllm-large": (1, "g5.12xlarge", 47810, 173400, 4, ("nvidia.com/gpu", None)),
}
CRDS = {
    "applications.argoproj.io",
    "applicationsets.argoproj.io",
    "appprojects.argoproj.io",
    "httproutes.gateway.networking.k8s.io",
    "podmonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
    "scaledobjects.keda.sh",
    "servicemonitors.monitoring.coreos.com",
}
COMPONENTS = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok-controller"}

POD = """
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: default}
spec:
  nodeSelector: {workload: gpu-vllm-large}
  tolerations: [{key: nvidia.com/gpu, operator: Exists}]
  initContainers: [{name: first, image: registry.example/first}]
  containers:
    - name: server
      image: registry.example/server
      startupProbe: {httpGet: {path: /health, port: 8000}, failureThreshold: 90}
      readinessProbe: {httpGet: {path: /health, port: 8000}}
      resources: {limits: {nvidia.com/gpu: 4}}
"""


@pytest.mark.parametrize("profile", POOLS)
def test_nodes_are_those_of_the_contract(cluster, profile):
    count, instance, cpu, memory, gpus, (key, value) = POOLS[profile]
    nodes = cluster.get("nodes", "-l", f"workload={profile}")["items"]
    assert len(nodes) == count
    for node in nodes:
        assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == instance
        assert node["metadata"]["labels"]["topology.kubernetes.io/region"] == "eu-central-1"
        assert node["spec"]["taints"] == [{"key": key, "effect": "NoSchedule", **({"value": value} if value else {})}]
        allocatable = node["status"]["allocatable"]
        assert (allocatable["cpu"], allocatable["memory"]) == (f"{cpu}m", f"{memory}Mi")
        assert allocatable.get("nvidia.com/gpu", "0") == str(gpus)
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"


def test_crds_are_established(cluster):
    found = {
        crd["metadata"]["name"]: {c["type"]: c["status"] for c in crd["status"]["conditions"]}["Established"]
        for crd in cluster.get("crds")["items"]
    }
    assert found == dict.fromkeys(CRDS, "True")


def test_other_peoples_namespaces_are_there_and_ours_is_not(clean_platform):
    names = {n["metadata"]["name"] for n in clean_platform.get("namespaces")["items"]}
    assert {"argocd", "ai-platform"} <= names
    assert "ml-models" not in names


def test_a_pod_with_init_container_and_probes_becomes_ready(clean_platform):
    clean_platform.kubectl("apply", "-f", "-", input=POD)
    clean_platform.kubectl("wait", "--for=condition=Ready", "pod/server", "--timeout=20s")
    assert clean_platform.get("pod", "server")["spec"]["nodeName"] == "gpu-vllm-large-1"


def test_a_restricted_namespace_refuses_a_careless_pod(clean_platform):
    clean_platform.kubectl("create", "namespace", "strict")
    clean_platform.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    refused = clean_platform.kubectl("apply", "-f", "-", input=POD.replace("default", "strict"), check=False)
    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr


def test_up_again_changes_nothing(cluster):
    before = cluster.resource_versions(), uids(cluster), cluster.processes()
    cluster.control("up")
    assert (cluster.resource_versions(), uids(cluster), cluster.processes()) == before


def uids(cluster):
    return {n["metadata"]["name"]: n["metadata"]["uid"] for n in cluster.get("nodes")["items"]}


def test_up_puts_back_what_was_deleted(cluster):
    cluster.kubectl("delete", "node/gpu-1", "crd/podmonitors.monitoring.coreos.com")
    cluster.control("up")
    test_nodes_are_those_of_the_contract(cluster, "gpu")
    test_crds_are_established(cluster)


def test_no_cluster_can_fill_anothers_etcd(cluster):
    # By itself kwokctl takes any port that is free just now: that of an etcd which is down, too.
    number = cluster.processes()["kube-apiserver"]
    options = dict(word[2:].partition("=")[::2] for word in Path(f"/proc/{number}/cmdline").read_text().split("\0")[1:])
    assert options["etcd-servers"] == f"http://127.0.0.1:{cluster.port + 10000}"
    assert str(cluster.port) in options["etcd-prefix"]


def test_nothing_listens_beyond_this_machine(cluster):
    inodes = {
        link.readlink().name.removeprefix("socket:[").rstrip("]")
        for pid in cluster.processes().values()
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if str(link.readlink()).startswith("socket:")
    }
    rows = [line.split() for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]]
    listening = {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}
    assert listening <= {"0100007F", "0" * 24 + "01000000"}
    assert listening


def listening(port):
    """Listen on a port, as soon as what was killed has let go of it."""
    ends = time.monotonic() + 30
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def test_a_cluster_from_first_start_to_the_end(other_cluster, tmp_path):
    """One sequence, since each start takes seconds: up, a killed API server, a wedged one, a port in use, down."""
    with other_cluster.running():
        other_cluster.kubectl("create", "namespace", "kept")
        assert set(other_cluster.processes()) == COMPONENTS
        assert stat.S_IMODE(other_cluster.kubeconfig.stat().st_mode) == 0o600

        for killed in (["kube-apiserver"], ["etcd", "kwok-controller"], sorted(COMPONENTS)):
            for program in killed:
                os.kill(other_cluster.processes()[program], signal.SIGKILL)
            other_cluster.control("up")
            assert set(other_cluster.processes()) == COMPONENTS
            other_cluster.kubectl("get", "namespace", "kept")
        other_cluster.kubectl("apply", "-f", "-", input=POD)  # controllers and nodes are at work at once, too
        other_cluster.kubectl("wait", "--for=condition=Ready", "pod/server", "--timeout=20s")
        other_cluster.kubectl("delete", "pod/server", "--timeout=20s")

        os.kill(other_cluster.processes()["kube-apiserver"], signal.SIGSTOP)
        other_cluster.control("up")
        other_cluster.kubectl("get", "namespace", "kept")

        # Its own port, and those that it derives: its etcd's is here the controller manager's.
        for offset, component in {0: "kube-apiserver", 1000: "etcd", -4000: "etcd-peer"}.items():
            rival = type(other_cluster)("modelyard-rival", other_cluster.port + offset, tmp_path / "rival")
            refused = rival.control("up", check=False)
            assert refused.returncode != 0
            taken = {0: other_cluster.port, 1000: other_cluster.port + 11000, -4000: other_cluster.port + 10000}[offset]
            told = f"port {taken} ({component} of the cluster modelyard-rival) is in use by another program (process "
            assert told in refused.stderr
            assert ": set CLUSTER_PORT" in refused.stderr
            assert rival.control("down").returncode == 0

        # After it was made, too: what has a dead component's port is named at once, and not after a minute.
        os.kill(other_cluster.processes()["etcd"], signal.SIGKILL)
        port = other_cluster.port + 10000
        with listening(port):
            refused = other_cluster.control("up", check=False)
        assert refused.returncode != 0
        name = other_cluster.env["CLUSTER_NAME"]
        told = f"port {port} (etcd of the cluster {name}) is in use by another program (process {os.getpid()}, "
        assert told in refused.stderr
        assert "healing failed" not in refused.stderr
        other_cluster.control("up")
        other_cluster.kubectl("get", "namespace", "kept")

    assert other_cluster.processes() == {}
    assert not other_cluster.home.exists()


@pytest.mark.parametrize("port", ["51536", "80", "abc"])
def test_ports_that_there_are_not_are_refused(other_cluster, port):
    refused = other_cluster.control("up", env={"CLUSTER_PORT": port}, check=False)
    assert refused.returncode != 0
    assert f"CLUSTER_PORT is {port}: it must be from 1024 to 51535" in refused.stderr


def test_a_component_that_ends_ends_the_start_with_its_last_words(other_cluster, tmp_path):
    """As an etcd does whose port another one took in the same moment."""
    built = Path(other_cluster.control("bin").stdout.strip())
    for program in built.iterdir():
        (tmp_path / program.name).symlink_to(program)
    (tmp_path / "etcd").unlink()
    script = f'[ "$1" != --version ] || exec {built}/etcd --version\necho listen: address already in use >&2\nexit 1\n'
    (tmp_path / "etcd").write_text(f"#!/bin/sh\n{script}")
    (tmp_path / "etcd").chmod(0o755)
    refused = other_cluster.control("up", env={"MODELYARD_BINARIES": str(tmp_path)}, check=False)
    assert refused.returncode != 0
    assert "etcd ended:\nlisten: address already in use\ncontrolplane: the cluster did not start" in refused.stderr
    # Not what kwokctl says when it has waited for two minutes.
    assert "deadline exceeded" not in refused.stderr


def test_a_path_that_kwokctl_cannot_hold_is_refused(other_cluster, tmp_path):
    refused = other_cluster.control("up", env={"MODELYARD_LOCAL": str(tmp_path / "a b")}, check=False)
    assert refused.returncode != 0
    assert "kwokctl cuts a path at a space: set MODELYARD_LOCAL" in refused.stderr


def test_down_removes_only_what_is_its_own(other_cluster, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    other_cluster.control("down", env={"MODELYARD_LOCAL": str(tmp_path)})
    assert precious.read_text() == "mine"


def test_an_interrupted_start_is_made_good(other_cluster):
    (other_cluster.home / "kwok" / "clusters" / other_cluster.env["CLUSTER_NAME"]).mkdir(parents=True)
    (other_cluster.home / "kwok" / "clusters" / other_cluster.env["CLUSTER_NAME"] / "kwok.yaml").write_text(
        "half a file"
    )
    with other_cluster.running():
        assert len(other_cluster.get("nodes")["items"]) == sum(pool[0] for pool in POOLS.values())


def test_ready_made_binaries_are_used(other_cluster, tmp_path):
    built = Path(other_cluster.control("bin").stdout.strip())
    ready = tmp_path / "ready"
    ready.mkdir()
    for program in ("etcd", "kwok", "kwokctl", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        (ready / program).symlink_to(built / program)
    other_cluster.env["MODELYARD_BINARIES"] = str(ready)
    refused = other_cluster.control("up", check=False)
    assert refused.returncode != 0
    assert f"{ready}/kubectl is missing: MODELYARD_BINARIES must hold etcd kwok" in refused.stderr

    (ready / "kubectl").symlink_to(built / "kubectl")
    with other_cluster.running():
        assert other_cluster.control("bin").stdout.strip() == str(ready)
        links = other_cluster.home / "kwok" / "clusters" / other_cluster.env["CLUSTER_NAME"] / "bin"
        assert {link.readlink().parent for link in links.iterdir()} == {ready}


def test_the_users_own_kubeconfig_is_left_alone(other_cluster, tmp_path):
    (tmp_path / "home").mkdir()
    other_cluster.env.update(
        HOME=str(tmp_path / "home"), MODELYARD_CACHE=str(Path(other_cluster.control("bin").stdout.strip()).parent)
    )
    with other_cluster.running():
        other_cluster.kubectl("get", "nodes")
    assert list((tmp_path / "home").iterdir()) == []


def test_kubeconfig_prints_the_path_alone(cluster):
    assert cluster.control("kubeconfig").stdout == f"{cluster.kubeconfig}\n"
    assert cluster.run("make", "-s", "kubeconfig", env={"MODELYARD_LOCAL": ""}).stdout == f"{ROOT}/.local/kubeconfig\n"


def test_every_target_is_in_the_help(cluster):
    listed = cluster.run("make").stdout
    for target in ("deploy", "destroy", "check", "smoke", "kubeconfig", "env", "build", "lint", "test", "help"):
        assert f"  {target} " in listed


FAKE_GO = """#!/bin/sh
case "$1 $2" in
    "env GOVERSION") echo go1.26.99 ;;
    "list -deps") seq 100 ;;
    "list tool") sed -n 's/^tool //p; s/^\t\\(.*cmd.*\\)/\\1/p' go.mod | grep -v '(' ;;
    "build -v")
        echo "$PWD" >>"$BUILDS"
        for last; do test "$out" = next && out=$last; test "$last" = -o && out=next; done
        for tool in $(go list tool); do
            tool=${tool%/v3}
            printf '#!/bin/sh\n' >"$out/${tool##*/}"
            chmod +x "$out/${tool##*/}"
        done
        ;;
    "mod download") test "$3" != -json || printf '\t"Dir": "%s",\n' "$CRDS/argo-cd/v3@1" "$CRDS/prometheus-operator@1" \
        "$CRDS/gateway-api@1" "$CRDS/keda/v2@1" ;;
esac
"""


@pytest.fixture
def builder(tmp_path):
    """A copy of the project's build with a Go that only pretends, and a cache of its own: run(), builds so far."""
    for part in ("controlplane", "tools"):
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "go").mkdir()
    (tmp_path / "go" / "go").write_text(FAKE_GO)
    (tmp_path / "go" / "go").chmod(0o755)
    for folder, names in {
        "argo-cd/v3@1/manifests/crds": [f"{n}-crd" for n in ("application", "applicationset", "appproject")],
        "prometheus-operator@1/example/prometheus-operator-crd": [
            f"monitoring.coreos.com_{n}" for n in ("servicemonitors", "podmonitors", "prometheusrules")
        ],
        "gateway-api@1/config/crd/standard": ["gateway.networking.k8s.io_httproutes"],
        "keda/v2@1/config/crd/bases": ["keda.sh_scaledobjects"],
    }.items():
        (tmp_path / "crds" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "crds" / folder / f"{name}.yaml").write_text("")
    builds = tmp_path / "builds"
    builds.touch()
    path = f"{tmp_path / 'go'}{os.pathsep}{os.environ['PATH']}"
    env = {
        **os.environ,
        "PATH": path,
        "MODELYARD_CACHE": str(tmp_path / "cache"),
        "BUILDS": str(builds),
        "CRDS": str(tmp_path / "crds"),
    }
    env.pop("MODELYARD_BINARIES", None)

    def start():
        return subprocess.Popen(
            [tmp_path / "controlplane" / "cluster", "build"],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return start, lambda: [Path(line).name for line in builds.read_text().split()]


def finish(*processes):
    output = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), output
    return output[0]


def test_build_makes_what_is_missing_and_says_how_far_it_is(builder, tmp_path):
    start, builds = builder
    output = finish(start())
    for position, module in enumerate(["etcd", "kwok", "kubernetes"], 1):
        assert f"[{position}/3] {module}: built in" in output
    assert {f.name for f in (tmp_path / "cache" / "bin").iterdir()} >= {"etcd", "kubectl", "kwokctl"}
    assert sorted(builds()) == ["etcd", "kubernetes", "kwok"]
    assert finish(start()) == ""
    assert len(builds()) == 3
    assert not list((tmp_path / "cache").glob("build.*"))


def test_a_version_bump_rebuilds_that_module_alone(builder, tmp_path):
    start, builds = builder
    finish(start())
    with (tmp_path / "controlplane" / "kwok" / "go.mod").open("a") as file:
        file.write("// another version\n")
    finish(start())
    assert builds()[3:] == ["kwok"]


def test_two_builds_at_once_build_once(builder):
    start, builds = builder
    finish(start(), start(), start())
    assert sorted(builds()) == ["etcd", "kubernetes", "kwok"]
