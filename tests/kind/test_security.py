"""What the containers may do, seen from inside of them; and what the workflows' account may do, tried with its token."""

import json
from pathlib import Path

import pytest
import yaml
from workflow_rights import deviations

SERVERS = {
    "triton-inference": "triton",
    "triton-inference-gpu": "triton",
    "vllm": "vllm",
    "judge-vllm": "judge-vllm",
    "mlserver": "mlserver",
}

# The capability sets, no_new_privs and seccomp mode of the container's first process, one a line.
STATUS = "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/1/status | tr -d '\\t'"
CONFINED = {
    *(f"Cap{name}:{0:016x}" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
    "NoNewPrivs:1",
    "Seccomp:2",  # a filter is on
}


@pytest.mark.parametrize("app", SERVERS)
def test_it_runs_as_nobody_special(platform, app):
    user, group = platform.inside(app, "id -u; id -g").stdout.split()
    assert "0" not in {user, group}
    assert set(platform.inside(app, STATUS).stdout.split()) == CONFINED


@pytest.mark.parametrize("app", SERVERS)
@pytest.mark.parametrize("folder", ["/", "/usr/bin", "/etc", "/opt"])
def test_its_root_file_system_refuses_a_write(platform, app, folder):
    done = platform.inside(app, f"touch {folder}/x", check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("app", SERVERS)
def test_it_has_no_token_for_the_api_server(platform, app):
    assert platform.inside(app, "ls /var/run/secrets/kubernetes.io", check=False).returncode != 0


def test_vllm_can_write_where_it_must(platform):
    folders = "/mnt/adapters/aws-rag-qa-live /tmp $HF_HOME $VLLM_CACHE_ROOT /dev/shm"
    platform.inside("vllm", f"for f in {folders}; do mkdir -p $f && touch $f/x && rm $f/x || exit 1; done")


def test_the_namespace_holds_everybody_to_it(platform):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": platform.image("vllm")}]},
    }
    done = platform.kubectl("apply", "--filename", "-", input=json.dumps(pod), check=False)
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr


def test_the_workflows_account_may_do_what_the_contract_lists_and_nothing_else(platform):
    """Verb by verb with its own token; exec and logs in a real container."""
    contract = yaml.safe_load((Path(__file__).parents[1] / "contract.yml").read_text())
    assert deviations(platform.kind, contract["workflow_rights"]["rights"], container="vllm") == []


def test_the_init_container_is_confined_as_well(platform):
    look = f"id -u; id -g; {STATUS}; touch /x 2>&1; ls /var/run/secrets/kubernetes.io 2>&1"
    platform.deploy("vllm", vllm_adapter_loader="image", vllm_init_command=["sh", "-c", f"{{ {look}; }} || true"])
    lines = platform.kubectl("logs", platform.pod("vllm"), "--container", "load-adapters").stdout.splitlines()
    assert "0" not in lines[:2]
    assert set(lines[2:9]) == CONFINED
    assert "Read-only file system" in lines[9]
    assert "No such file or directory" in lines[10]
