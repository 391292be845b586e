"""playbooks/adopt.yml on a real API server: what others applied is read and not touched, and the inventory that comes of it is taken by a run."""

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from delivering import act, deliver
from rendering import rendered

SHAPES = Path(__file__).resolve().parent / "adopt"
LLM = "/namespaces/llm"
DEPLOYMENTS = f"/apis/apps/v1{LLM}/deployments"


@pytest.fixture
def others(cluster, clean_platform):
    """A namespace in which others deployed two servers."""
    cluster.api("POST", "/api/v1/namespaces", {"metadata": {"name": "llm"}})
    made = {"metadata": {"name": "gp3", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
    made |= {"provisioner": "csi.example", "volumeBindingMode": "WaitForFirstConsumer"}
    cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", made)
    for shape in ("plain", "inference-chart"):
        cluster.kubectl("apply", "-f", str(SHAPES / f"{shape}.yaml"))
    claim = {"metadata": {"name": "fsx-models"}, "spec": {"accessModes": ["ReadWriteMany"]}}
    claim["spec"]["resources"] = {"requests": {"storage": "1200Gi"}}
    cluster.api("POST", f"/api/v1{LLM}/persistentvolumeclaims", claim)
    secret = {"metadata": {"name": "hf-token"}, "stringData": {"token": "very-secret"}}
    cluster.api("POST", f"/api/v1{LLM}/secrets", secret)
    return cluster


def test_what_others_applied_is_read_and_a_run_takes_it_over(others, tmp_path):
    cluster, connection = others, {"kubeconfig": str(others.kubeconfig)}
    versions, file = cluster.resource_versions(), tmp_path / "host_vars" / "local.yml"
    given = ("-e", "adopt_namespace=llm", "-e", f"adopt_file={file}")
    cluster.playbook("adopt", *given, "--check")
    assert not file.exists()
    shown = cluster.playbook("adopt", *given).stdout
    assert "mistral-7b: can't be expressed: env.HUGGING_FACE_HUB_TOKEN: its value is a credential" in shown
    assert "hf_abcdefghij" not in shown + file.read_text()
    assert cluster.resource_versions() == versions
    place, said = {"cluster_name": "local", "api_server": cluster.url}, []
    with pytest.raises(AnsibleActionFail, match="there is such a file already"):
        act("adopt", said, connection=connection, place=place, namespace="llm", file=str(file))
    report = act("adopt", said, connection=connection, place=place, namespace="llm")["report"]
    assert f"---\n{report['inventory']}" == file.read_text()
    assert [(one["server"], bool(one["takeover"])) for one in report["servers"]] == [
        ("llama-vllm", True),
        ("mistral-7b", False),
    ]

    found = rendered(**yaml.safe_load(file.read_text()), apply_wait=False)
    assert found["problems"] == []
    refused = deliver(found, connection).failed
    assert "Deployment llm/llama-vllm" in refused
    assert "field is immutable" in refused
    way = next(one["takeover"] for one in report["servers"] if one["takeover"]).partition("leave its pods: kubectl ")[2]
    cluster.kubectl(*way.partition(";")[0].split())
    done = deliver(found, connection)
    assert done.failed == ""
    again = deliver(found, connection)
    assert (again.failed, again.changed) == ("", 0)
    # What the roles do in their own way was told, and nothing else has changed.
    live = cluster.api("GET", f"{DEPLOYMENTS}/mistral-7b")
    container = live["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][0] == "mistralai/Mistral-7B-Instruct-v0.3"
    assert container["resources"]["limits"]["memory"] == "20G"
    assert "securityContext" not in container or container["securityContext"] == {}
    service = cluster.api("GET", f"/api/v1{LLM}/services/mistral-7b")
    assert service["spec"]["ports"][0]["targetPort"] == 8000
    said = []
    told = act("adopt", said, connection=connection, place=place, namespace="llm")["report"]["told"]
    assert "can't be expressed: Deployment mistral-7b is modelyard's already: it is in some inventory" in told
