"""playbooks/aws.yml and playbooks/identity.yml as an operator runs them, or their actions alone, against the stand-in for AWS."""

import contextlib
import http.server
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import aws_api
import pytest
import urllib3
import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader
from ansible.template import trust_as_template
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import chain
from aws_api import ACCOUNT, ROLES, everything
from delivering import handed_on
from rendering import rendered

ROOT = aws_api.ROOT
HOST_VARIABLES = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "platform_api_server": "https://127.0.0.1:1",
    "platform_aws_account_id": ACCOUNT,
    "platform_accepted_placeholders": [ACCOUNT],
    "triton_enabled_profiles": ["cpu", "gpu"],
    "irsa_oidc_issuer": aws_api.ISSUER,
    "irsa_buckets": {"my-triton-models": {}},
}


@pytest.fixture
def play(cloud, tmp_path):
    """Run a playbook for two clusters that share their roles; `changes` are variables of the host."""

    def run(name, *arguments, hosts=("staging",), check=True, env=None, **changes):
        second = {"irsa_oidc_issuer": f"{aws_api.ISSUER}2"}
        found = {host: {**HOST_VARIABLES, **(second if host != "staging" else {}), **changes} for host in hosts}
        inventory = tmp_path / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"clusters": {"hosts": found}}), encoding="utf-8")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("K8S_AUTH_", "KUBECONFIG"))}
        done = subprocess.run(
            [aws_api.BIN / "ansible-playbook", "-i", inventory, f"playbooks/{name}.yml", *arguments],
            cwd=ROOT,
            env={**kept, **cloud.env, "ANSIBLE_NOCOLOR": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        for secret in aws_api.CREDENTIALS.values():
            assert secret not in said
        assert (done.returncode == 0) is check, said
        return said

    return run


def act(name, host="staging", arguments=None, hosts=None, **changes):
    """Render a host and run an action on it as the playbook of its name does, in this process."""
    second = {"irsa_oidc_issuer": f"{aws_api.ISSUER}2"} if host != "staging" else {}
    found = rendered(inventory_hostname=host, **{**HOST_VARIABLES, **second, **changes})
    task = SimpleNamespace(
        args={**(arguments or {}), "rendered": found}, check_mode=False, diff=False, async_val=0, action=name
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="never used"))
    parts = {"connection": connection, "play_context": None, "loader": None, "templar": None, "shared_loader_obj": None}
    result = action_loader.get(f"modelyard.core.{name}", task=task, **parts).run(
        task_vars={"inventory_hostname": host, "hostvars": hosts or {}}
    )
    handed_on(result)
    return result


def changes_of(said):
    """Each change that a run tells, by its cluster, in order."""
    found = re.findall(r"^  ([\w-]+): (?:would )?((?:create|change|set|tag|untag|delete) .+)$", said, re.MULTILINE)
    return {host: [change for other, change in found if other == host] for host, _ in found}


def test_two_clusters_made_foretold_and_taken_away(cloud, play):
    both = ("staging", "prod-eu")
    foretold = play("aws", "--check", "--diff", hosts=both)
    assert everything(cloud) == {"associations": {}}
    # The diff shows the policies, statement by statement.
    assert '"Sid": "ListMyTritonModels"' in foretold
    made = play("aws", hosts=both)
    # The second cluster finds the roles that the first one made (either may come first); a dry run of both can't know them.
    first = next(iter(changes_of(made)))
    assert changes_of(made)[first] == changes_of(foretold)[first]
    for role in ROLES:
        assert len(everything(cloud)[role]["AssumeRolePolicyDocument"]["Statement"]) == 2
    # The roles are of whichever came first.
    for said, many, states in (
        (foretold, " would be made, and nothing was written", {"to be created"}),
        (made, "", {"created", "changed"}),
    ):
        assert re.search(rf"^  staging: \d+ changes{many}$", said, re.MULTILINE), said
        rows = re.findall(rf"^  (?:staging|prod-eu): role +{ROLES[0]} +(.+)$", said, re.MULTILINE)
        assert (len(rows), set(rows)) == (2, states)
        lines = [line for line in said.splitlines() if line.startswith(("  staging: ", "  prod-eu: "))]
        table = [line for line in lines if re.search(" (state|created|changed|as it was)$", line, re.IGNORECASE)]
        assert table
        assert max(map(len, table)) <= 79
    assert re.findall(r"changed=(\d)", made) == ["1", "1"]
    assert [act("aws", host)["changed"] for host in both] == [False, False]
    play("aws", "-e", "irsa_state=absent", hosts=both)
    assert everything(cloud) == {"associations": {}}


def test_names_by_a_template_and_a_profile_of_the_aws_configuration(cloud, monkeypatch, tmp_path):
    keys = "".join(f"{name.lower()} = {value}\n" for name, value in aws_api.CREDENTIALS.items())
    (tmp_path / "config").write_text(f"[profile one]\n{keys}", encoding="utf-8")
    for variable in aws_api.CREDENTIALS:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    name = trust_as_template("{{ platform_cluster_name }}-triton")
    act("aws", irsa_aws_profile="one", irsa_tags={"a": "b"}, triton_role_name=name, platform_irsa_role_path="/ml/")
    role = everything(cloud)["staging-triton"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/ml/staging-triton"
    host = aws_api.ISSUER.removeprefix("https://")
    trusted = role["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]["StringEquals"]
    # Both of Triton's profiles are on.
    subjects = [f"system:serviceaccount:ml-models:{name}" for name in ("triton-inference", "triton-inference-gpu")]
    assert trusted == {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": subjects}


def test_wrong_inputs_are_refused_before_anything_is_written(cloud, play):
    said = play("aws", check=False, triton_model_repository="s3://elsewhere", irsa_vllm_access=[{"bucket": "s3://x"}])
    assert "Nothing was changed in AWS." in said
    assert "must hold the bucket 'elsewhere'" in said
    # Each with its place, or that nobody has set it.
    assert re.search(r"vllm_access\[0\].bucket is 's3://x': must be .+ \(set at \S+/hosts.yml:\d+\)\n", said)
    assert re.search(r"triton_access is .+: ml-models/\S+ reads s3://elsewhere \(this is the default: set it in", said)
    assert "irsa_vllm_access is called vllm_access now" in said
    with pytest.raises(AnsibleActionFail) as error:
        act("aws", irsa_vllm_access=[{"buckets": "x"}], irsa_max_session_second=1, vllm_judge_access=[{"buckets": "x"}])
    assert "cluster staging: Nothing was changed in AWS." in str(error.value)
    assert "did you mean irsa_max_session_seconds?" in str(error.value)
    # By the name under which it is set.
    assert "irsa_vllm_access[0].buckets" in str(error.value)
    assert "vllm_judge_access[0].buckets" in str(error.value)
    assert everything(cloud) == {"associations": {}}


def test_two_hosts_that_are_one_cluster_to_aws_are_refused(cloud, play):
    said = play("aws", hosts=("one", "two", "three"), check=False, platform_cluster_name="ml")
    refusals = re.findall(
        r"platform_cluster_name is 'ml': must differ from that of ([\w, ]+), of the same account", said
    )
    assert set(refusals) == {"three, two", "one, three", "one, two"}
    assert everything(cloud) == {"associations": {}}
    # Another region tells them apart.
    others = {
        "staging": HOST_VARIABLES,
        "prod": {**HOST_VARIABLES, "platform_cluster_name": "ml", "platform_aws_region": "eu-west-1"},
    }
    assert act("aws", hosts=others, platform_cluster_name="ml")["changed"]


class _Between(http.server.BaseHTTPRequestHandler):
    """Hands requests on to moto; `server.seen` is called before each."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen(body)
        kept = {key: value for key, value in self.headers.items() if key != "Host"}
        answer = urllib3.request(self.command, self.server.target + self.path, headers=kept, body=body, redirect=False)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    def log_message(self, *_):
        pass


def _processes(inventory):
    """Numbers of the processes that run a playbook on an inventory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(inventory) in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_playbook_that_is_interrupted_takes_back_what_it_made(cloud, tmp_path, kind):
    """The signal reaches ansible-playbook alone, as from a terminal or a supervisor; its worker outlives it until all is taken back."""
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"clusters": {"hosts": {"staging": {**HOST_VARIABLES, "irsa_buckets": {}}}}}))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("K8S_AUTH_", "KUBECONFIG"))}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Between) as between:
        between.target = cloud.url
        seen = []

        def look(body):
            seen.append(parse_qs(body.decode()).get("Action", [""])[0])
            if seen.count("PutRolePolicy") == 2 and seen[-1] == "PutRolePolicy":
                process.send_signal(kind)
                time.sleep(1)  # for the worker to hear of it; if it does not, the test fails

        between.seen = look
        threading.Thread(target=between.serve_forever, daemon=True).start()
        process = subprocess.Popen(
            [aws_api.BIN / "ansible-playbook", "-i", inventory, "playbooks/aws.yml"],
            cwd=ROOT,
            env={**kept, **cloud.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{between.server_port}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert process.wait(120) != 0
            deadline = time.monotonic() + 60
            # Its worker is alone now, and ends when it has taken everything back.
            while _processes(inventory) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert _processes(inventory) == []
        finally:
            for number in _processes(inventory):
                os.kill(number, signal.SIGKILL)
            process.wait()
            between.shutdown()
    assert seen.count("CreateRole") == seen.count("DeleteRole") == 2
    assert everything(cloud) == {"associations": {}}


def test_without_credentials_it_says_where_they_come_from(cloud, monkeypatch):
    for variable in aws_api.CREDENTIALS:
        monkeypatch.delenv(variable)
    with pytest.raises(AnsibleActionFail, match="set irsa_aws_profile, AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
        act("aws")


def test_the_report_on_a_cluster(cloud, clean_platform, play):
    """Against a real API server: accounts deployed, the AWS side made for the issuer that signs their tokens."""
    issuer = clean_platform.api("GET", "/.well-known/openid-configuration")["issuer"]
    reach = {
        "platform_connection": {"kubeconfig": str(clean_platform.kubeconfig)},
        "platform_api_server": clean_platform.url,
        "irsa_oidc_issuer": issuer,
    }
    play("irsa", **reach)
    act("aws", **reach)
    for bucket in ("my-mlflow-artifacts", "my-vllm-data"):
        cloud.client("s3").create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws_api.REGION}
        )
    report = play("identity", check=False, **reach)
    assert re.search(r"ml-models/workflow-sa +my-ml-models-argo-workflows( +ok){8} +BROKEN +open", report)
    assert "ml-models/workflow-sa: pods: no MutatingWebhookConfiguration pod-identity-webhook" in report
    assert re.search(r"ml-models/vllm-sa +my-vllm-s3-read +BROKEN( +-){8} +open", report)
    assert "ml-models/vllm-sa: annotation: the ServiceAccount is absent from the cluster" in report
    assert chain.NOT_JUDGED in report
    assert chain.NOT_JUDGED in (ROOT / "docs/aws.md").read_text(encoding="utf-8")
    wrong = {**reach, "irsa_oidc_issuer": f"{issuer}.x", "irsa_report_strict": False}
    found = act("identity", arguments={"connection": reach["platform_connection"]}, **wrong)
    assert not found["failed"]
    mismatch = f"issuer: mismatch: the cluster signs as {issuer}"
    assert f"ml-models/workflow-sa: {mismatch}" in found["msg"]
    seen = act("report", arguments={"connection": reach["platform_connection"]}, **wrong)["report"]
    assert (seen["identity"], len(seen["chains"])) == (f"account {aws_api.ACCOUNT}", len(found["chains"]))
    broken = [one["text"] for one in seen["findings"] if "does not reach its objects in S3" in one["text"]]
    assert any(
        line.startswith(f"ml-models/workflow-sa does not reach its objects in S3: {mismatch}") for line in broken
    )
    none = act("report", arguments={"connection": reach["platform_connection"], "identity": False}, **wrong)["report"]
    assert (none["identity"], none["chains"]) == ("not looked at", [])
