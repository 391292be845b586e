"""checkov on the rendered manifests, parliament on the IAM and S3 policies: a finding without a reason here is an error.

Both come from the dependency group `linters` and work offline.
"""

import json
import os
import re
import shutil
import subprocess

import aws_api
import pytest
import yaml
from aws_api import ACCOUNT, OTHER, everything, policy_name, service_account
from rendering import rendered
from services import ROOT, python_of

# --- Manifests --------------------------------------------------------------------------------------

# Clusters beside the committed tree's, each in a namespace of its own: checkov checks all of them in one run (it takes seconds to start).
# `everything` is what profiles, judge and switches add; `pinned` follows the findings below, and so has none.
BY_DIGEST = f"@sha256:{'0' * 64}"
MLSERVER = {
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
}
CASES = {
    "everything": {
        **MLSERVER,
        "platform_namespace": "everything",
        "platform_proxy": {"https_proxy": "http://proxy.example.com:3128"},
        "platform_ca_bundle_configmap": "corporate-ca",
        "platform_hf_token_secret": {"name": "hf", "key": "token"},
        "platform_image_pull_secrets": ["pull"],
        "platform_pod_identity": True,
        "triton_enabled_profiles": ["cpu", "gpu"],
        "vllm_judge_variant": "judge",
        "vllm_judge_cache": {"type": "claim", "size": "20Gi", "storage_class": "gp3"},
    },
    "pinned": {
        **MLSERVER,
        "mlserver_image": f"seldonio/mlserver{BY_DIGEST}",
        "mlserver_init_image_tag": BY_DIGEST.removeprefix("@"),
        "platform_namespace": "pinned",
        "platform_image_pull_policy": "Always",
        "triton_enabled_profiles": ["cpu", "gpu"],
        "triton_image": f"nvcr.io/nvidia/tritonserver{BY_DIGEST}",
        "vllm_image": f"vllm/vllm-openai{BY_DIGEST}",
        "vllm_init_image_tag": BY_DIGEST.removeprefix("@"),
        "vllm_judge_image": f"vllm/vllm-openai{BY_DIGEST}",
        "vllm_judge_variant": "judge-large",
    },
}
# What must be found: a pod that owns its node.
BAD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "owner", "namespace": "bad"},
    "spec": {
        "hostNetwork": True,
        "containers": [{"name": "owner", "image": "owner:1", "securityContext": {"privileged": True}}],
    },
}
# What checkov finds and stays, all since 2026-11-26, with the resources that it may be found in.
SERVERS = re.compile(r"Deployment\.(ml-models|everything)\.(triton-inference(-gpu)?|vllm|judge-vllm|mlserver)")
LOADER = re.compile(r"Deployment\.(ml-models|everything)\.(vllm|mlserver)")
WITH_TOKEN = re.compile(r"Deployment\.everything\.(judge-)?vllm")
ACCEPTED = {
    # Image should use digest: the platform's contract names tags; a digest is a variable's value, see `pinned`.
    "CKV_K8S_43": SERVERS,
    # Image pull policy should be Always: tags that never move; with Always, no pod starts while the registry is down. A variable too.
    "CKV_K8S_15": SERVERS,
    # Image tag should be fixed: the loader's image is the workflows' own, and the contract names no tag of it. It is pulled always.
    "CKV_K8S_14": LOADER,
    # Prefer Secrets as files over environment: HF_TOKEN is how vLLM takes it, and a Secret that is missing ends a rollout within
    # seconds (CreateContainerConfigError); as a volume the pod would wait for it until the deadline.
    "CKV_K8S_35": WITH_TOKEN,
}


def objects_of(case):
    """What all roles render for a case."""
    found = rendered(inventory_hostname=case, **CASES[case])
    assert found["problems"] == []
    return [item for part in found["parts"] for item in part["objects"]]


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """{folder: [(check, resource)]}: what checkov finds in the committed tree, in each case, and in what is bad."""
    folder = tmp_path_factory.mktemp("manifests")
    shutil.copytree(ROOT / "infra", folder / "infra")
    manifests = {case: objects_of(case) for case in CASES}
    for case, objects in {**manifests, "bad": [BAD]}.items():
        (folder / case).mkdir()
        (folder / case / "all.yaml").write_text(yaml.safe_dump_all(objects))
    checkov = [python_of("linters").parent / "checkov", "--framework", "kubernetes", "--skip-download"]
    done = subprocess.run(
        [*checkov, "--directory", ".", "--output", "json", "--quiet", "--compact"],
        cwd=folder,
        env={**os.environ, "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # for what is bad
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    # All was read: some eighty checks for each of the Deployments, and of the pods that they make.
    deployments = [item for objects in manifests.values() for item in objects if item["kind"] == "Deployment"]
    assert report["summary"]["passed"] > 80 * len(deployments)
    found = {case: [] for case in ("infra", *CASES, "bad")}
    for item in report["results"]["failed_checks"]:
        found[item["file_path"].split("/")[1]].append((item["check_id"], item["resource"]))
    return found


def test_a_privileged_pod_on_the_nodes_network_is_found(findings):
    assert {("CKV_K8S_16", "Pod.bad.owner"), ("CKV_K8S_19", "Pod.bad.owner")} <= set(findings["bad"])


@pytest.mark.parametrize("folder", ["infra", "everything"])
def test_manifests_have_no_finding_without_a_reason(findings, folder):
    unexplained = [
        (check, resource)
        for check, resource in findings[folder]
        if not (check in ACCEPTED and ACCEPTED[check].fullmatch(resource))
    ]
    assert unexplained == []


def test_every_reason_is_still_needed(findings):
    assert {check for check, _ in [*findings["infra"], *findings["everything"]]} == ACCEPTED.keys()


def test_with_digests_and_always_pulled_there_is_none_at_all(findings):
    assert findings["pinned"] == []


# --- Policies ---------------------------------------------------------------------------------------

# Each partition with a region, and a cluster with EKS Pod Identity.
CLUSTERS = {
    "aws": {},
    "aws-cn": {"region": "cn-north-1"},
    "aws-us-gov": {"region": "us-gov-west-1"},
    "pod-identity": {"pod_identity": True, "oidc_issuer": ""},
}
ALLOW = {"Sid": "A", "Effect": "Allow"}
BUCKET = "arn:aws:s3:::my-bucket"
BAD_POLICIES = {
    "everything-everywhere": ({**ALLOW, "Action": "s3:*", "Resource": "*"}, "RESOURCE_STAR"),
    "objects-of-a-bucket-without-its-keys": (
        {**ALLOW, "Action": "s3:GetObject", "Resource": BUCKET},
        "RESOURCE_MISMATCH",
    ),
    "an-action-that-does-not-exist": (
        {**ALLOW, "Action": "s3:HeadBucket", "Resource": BUCKET},
        "UNKNOWN_ACTION",
    ),
    "a-condition-that-never-holds": (
        {**ALLOW, "Action": "s3:ListBucket", "Resource": BUCKET, "Condition": {"StringLike": {"s3:prefx": "a/*"}}},
        "UNKNOWN_CONDITION_FOR_ACTION",
    ),
}
# What parliament finds and stays, all since 2026-11-26: policy, finding and detail, as patterns.
POLICIES_ACCEPTED = (
    # It knows of no OIDC provider but four; ours is named by its ARN, and its condition keys by its host (test_aws_role.py).
    ("trust", "UNKNOWN_FEDERATION_SOURCE", r"arn:aws(-cn|-us-gov)?:iam::\d{12}:oidc-provider/oidc\.eks\.[\w.-]+/id/A+"),
    (
        "trust",
        "UNKNOWN_CONDITION_FOR_ACTION",
        r"Unknown condition oidc\.eks\.[\w.-]+/id/A+:(aud|sub) for action sts:AssumeRoleWithWebIdentity",
    ),
    # Handing out the role's credentials is what a trust policy is for.
    ("trust", "CREDENTIALS_EXPOSURE", ""),
    # The account of a run writes roles and buckets' policies; aws-policy-boundary.json limits that.
    ("run", "PERMISSIONS_MANAGEMENT_ACTIONS", ""),
    # AWS's own examples compare a boundary as a text (IAM User Guide, "Permissions boundaries for IAM entities").
    (
        "run",
        "MISMATCHED_TYPE_BUT_USABLE",
        "Type mismatch: StringEquals requires a value of type String but given Arn",
    ),
    (
        "run",
        "RESOURCE_POLICY_PRIVILEGE_ESCALATION",
        r"Possible resource policy privilege escalation on arn:aws:s3:::my-triton-models due to s3:(Get|Put|Delete)Object not "
        r"being allowed, but does allow s3:Put(BucketPolicy|LifecycleConfiguration)",
    ),
)


def of_an_account(cloud, cluster):
    """Every policy that a run writes for a cluster: (kind, owner) to document."""
    given = CLUSTERS[cluster]
    partition, region = cluster if "region" in given else "aws", given.get("region", aws_api.REGION)
    if given.get("pod_identity"):
        cloud.eks.cluster("staging")
    roles = {"triton": "my-triton-s3-read", "vllm": "my-vllm-s3-read", "workflow": "my-ml-models-argo-workflows"}
    arns = {name: f"arn:{partition}:iam::{ACCOUNT}:role/{role}" for name, role in roles.items()}
    key = f"arn:{partition}:kms:{region}:{ACCOUNT}:key/12345678-1234-1234-1234-123456789012"
    accounts = [service_account(name, f"{name}-sa", arn) for name, arn in arns.items()]
    accounts[-1]["access"].append(
        {"bucket": "my-encrypted-data", "prefixes": ["one", "two"], "write": True, "kms_key_arn": key}
    )
    point = {"access_point": f"arn:{partition}:s3:{region}:{OTHER}:accesspoint/point", "account_id": OTHER}
    accounts[-1]["access"].append({"bucket": "their-data", "write": True, "head_bucket": True, **point})
    accounts[-1]["access"].append({"bucket": "their-data", "prefixes": ["one"], **point})
    aws_api.run(
        **{
            "partition": partition,
            "region": region,
            "oidc_issuer": f"https://oidc.eks.{region}.amazonaws.com/id/AAAA",
            "service_accounts": accounts,
            "role_arns": list(arns.values()),
            **given,
        }
    )
    found = everything(cloud, region=region)
    documents = {("bucket", "my-triton-models"): json.loads(found["my-triton-models"]["get_bucket_policy"]["Policy"])}
    for role, arn in zip(roles.values(), arns.values(), strict=True):
        documents["permissions", role] = found[role][policy_name(region=region)]
        trust = found[role]["AssumeRolePolicyDocument"]
        # A trust policy's resource is the role that carries it; parliament wants it written down.
        trust["Statement"] = [{**statement, "Resource": arn} for statement in trust["Statement"]]
        documents["trust", role] = trust
    return documents


@pytest.fixture(scope="module")
def verdicts(aws_services, tmp_path_factory):
    """{folder: [(kind of policy, finding, detail)]}: what parliament finds in what runs write, in docs/, and in what is bad."""
    folder = tmp_path_factory.mktemp("policies")
    kept = {"aws-policy": "run", "aws-policy-boundary": "run", "aws-boundary": "boundary"}
    documents = {
        ("docs", kind, name): json.loads((ROOT / "docs" / f"{name}.json").read_text()) for name, kind in kept.items()
    }
    for name, (statement, _) in BAD_POLICIES.items():
        documents[name, "bad", "bad"] = {"Version": "2012-10-17", "Statement": [statement]}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_services.env.items():
            patch.setenv(name, value)
        for cluster in CLUSTERS:
            aws_services.reset()
            for (kind, owner), document in of_an_account(aws_services, cluster).items():
                documents[cluster, kind, owner] = document
    for (where, kind, owner), document in documents.items():
        (folder / where).mkdir(exist_ok=True)
        (folder / where / f"{kind}-{owner}.json").write_text(json.dumps(document))
    parliament = [python_of("linters").parent / "parliament", "--directory", ".", "--json"]
    done = subprocess.run(
        [*parliament, "--include-community-auditors"],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # for what is bad
    found = {where: [] for where, _, _ in documents}
    for line in done.stdout.splitlines():
        item = json.loads(line)
        where, name = item["location"]["filepath"].removeprefix("./").split("/")
        found[where].append((name.partition("-")[0], item["issue"], str(item["detail"])))
    return found


@pytest.mark.parametrize("name", BAD_POLICIES)
def test_a_bad_policy_is_found(verdicts, name):
    assert BAD_POLICIES[name][1] in {issue for _, issue, _ in verdicts[name]}


def accepted(kind, issue, detail):
    """The reason's place in POLICIES_ACCEPTED, or None."""
    for index, (policy, finding, pattern) in enumerate(POLICIES_ACCEPTED):
        if (kind, issue) == (policy, finding) and re.fullmatch(pattern, detail):
            return index
    return None


@pytest.mark.parametrize("where", [*CLUSTERS, "docs"])
def test_policies_have_no_finding_without_a_reason(verdicts, where):
    assert [found for found in verdicts[where] if accepted(*found) is None] == []


def test_every_reason_for_a_policy_is_still_needed(verdicts):
    found = {accepted(*each) for where in (*CLUSTERS, "docs") for each in verdicts[where]}
    assert found == set(range(len(POLICIES_ACCEPTED)))
