"""playbooks/aws.yml and playbooks/identity.yml as an operator runs them, against the stand-in for AWS."""

import json
import os
import re
import subprocess

import aws_api
import pytest
import yaml
from aws_api import ACCOUNT, OTHER, ROLES, everything

ROOT = aws_api.ROOT
HOST_VARIABLES = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "platform_api_server": "https://127.0.0.1:1",
    "platform_aws_account_id": ACCOUNT,
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


def changes_of(said):
    return re.findall(r"^  ((?:create|change|set|tag|untag|delete) .+)$", said, re.MULTILINE)


def test_two_clusters_made_foretold_and_taken_away(cloud, play):
    both = ("staging", "prod-eu")
    foretold = play("aws", "--check", "--diff")
    assert everything(cloud) == {"associations": {}}
    # The diff shows the policies, statement by statement.
    assert '"Sid": "ListMyTritonModels"' in foretold
    assert "+" in foretold
    assert changes_of(play("aws")) == changes_of(foretold)
    play("aws", hosts=both)
    for role in ROLES:
        trust = everything(cloud)[role]["AssumeRolePolicyDocument"]["Statement"]
        assert len(trust) == 2
    assert re.findall(r"changed=(\d)", play("aws", hosts=both)) == ["0", "0"]
    play("aws", "--limit", "prod-eu", "-e", "irsa_state=absent", hosts=both)
    assert len(everything(cloud)[ROLES[0]]["AssumeRolePolicyDocument"]["Statement"]) == 1
    play("aws", "-e", "irsa_state=absent")
    assert everything(cloud) == {"associations": {}}


def test_both_profiles_accounts_carry_tritons_role_and_its_name_is_a_template(cloud, play):
    play(
        "aws",
        triton_role_name="{{ platform_cluster_name }}-triton",
        platform_irsa_role_path="/ml/",
        irsa_tags={"a": "b"},
    )
    role = everything(cloud)["staging-triton"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/ml/staging-triton"
    host = aws_api.ISSUER.removeprefix("https://")
    trusted = role["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]["StringEquals"]
    assert trusted == {
        f"{host}:aud": "sts.amazonaws.com",
        f"{host}:sub": [
            "system:serviceaccount:ml-models:triton-inference",
            "system:serviceaccount:ml-models:triton-inference-gpu",
        ],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"platform_aws_account_id": OTHER}, f"the AWS credentials lead to account {ACCOUNT}"),
        ({"triton_model_repository": "s3://elsewhere"}, "irsa_triton_access"),
        ({"irsa_vllm_access": [{"bucket": "s3://x"}]}, "must be the name of a bucket, without s3://"),
        ({"irsa_vllm_access": [{"buckets": "x"}]}, "irsa_vllm_access[0]"),
        ({"irsa_max_session_second": 1}, "did you mean irsa_max_session_seconds?"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_written(cloud, play, changes, message):
    assert message in play("aws", check=False, **changes)
    assert everything(cloud) == {"associations": {}}


def test_without_credentials_it_says_where_they_come_from(play):
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "give the job an AWS credential, or set irsa_aws_profile" in play("aws", check=False, env=none)


def test_a_profile_of_the_aws_configuration(cloud, play, tmp_path):
    none = dict.fromkeys(aws_api.CREDENTIALS, "")
    keys = "".join(f"{name.lower()} = {value}\n" for name, value in aws_api.CREDENTIALS.items())
    (tmp_path / "config").write_text(f"[profile one]\n{keys}", encoding="utf-8")
    env = {**none, "AWS_CONFIG_FILE": str(tmp_path / "config")}
    play("aws", env=env, irsa_aws_profile="one")
    assert ROLES[0] in everything(cloud)
    assert "irsa_aws_profile" in play("aws", env=env, check=False, irsa_aws_profile="two")


def test_the_report_on_a_cluster(cloud, clean_platform, play):
    """Against a real API server: accounts deployed, the AWS side made for the issuer that signs their tokens."""
    issuer = clean_platform.api("GET", "/.well-known/openid-configuration")["issuer"]
    reach = {
        "platform_connection": {"kubeconfig": str(clean_platform.kubeconfig)},
        "platform_api_server": clean_platform.url,
        "irsa_oidc_issuer": issuer,
    }
    report = play("identity", check=False, **reach)
    assert "ml-models/vllm-sa: annotation: the ServiceAccount is absent from the cluster" in report
    play("irsa", **reach)
    play("aws", **reach)
    relaxed = play("identity", "-e", json.dumps({"irsa_report_strict": False}), **reach)
    assert re.search(r"ml-models/workflow-sa +my-ml-models-argo-workflows( +ok){7} +closed", relaxed)
    assert re.search(r"ml-models/vllm-sa +my-vllm-s3-read +BROKEN( +-){6} +open", relaxed)
    wrong = play("identity", check=False, **{**reach, "irsa_oidc_issuer": f"{issuer}.x"})
    assert f"ml-models/workflow-sa: issuer: mismatch: the cluster signs as {issuer}" in wrong
