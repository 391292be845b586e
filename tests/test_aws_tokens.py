"""From a ServiceAccount to an object in S3: real tokens of a real API server, the trust and the policies that
playbooks/aws.yml made, and a stand-in for STS that decides by them. moto itself looks at no token and at no condition.
"""

import copy
import json
import re
import subprocess
import time
import types

import aws_api
import jwt
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam
from aws_api import ACCOUNT, ROLES, everything

TRITON, VLLM, WORKFLOWS = ROLES
CARRIERS = {
    "triton-inference": TRITON,
    "triton-inference-gpu": TRITON,
    "vllm-sa": VLLM,
    "workflow-sa": WORKFLOWS,
}
AUDIENCE = "sts.amazonaws.com"


class Refused(Exception):
    """What STS would say no to, and why."""


class Sts:
    """Stands in for AssumeRoleWithWebIdentity: a token's signature, issuer, audience and time, and a role's trust policy.

    Args:
        providers: issuer's URL to (ARN of its IAM provider, the audiences that it lists, its JWKS).
        roles: name to trust policy.
    """

    def __init__(self, providers, roles):
        self.providers, self.roles = providers, roles

    def assume(self, token: str, role: str, later: float = 0) -> None:
        """Let a token take a role, `later` seconds from now; Refused where it may not."""
        issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
        if issuer not in self.providers:
            raise Refused(f"No OpenIDConnect provider found for {issuer}")
        arn, audiences, keys = self.providers[issuer]
        known = {key.key_id: key for key in jwt.PyJWKSet.from_dict(keys).keys}
        key = known.get(jwt.get_unverified_header(token)["kid"])
        if key is None:
            raise Refused("the provider has no such key")
        try:
            claims = jwt.decode(
                token, key, algorithms=["RS256"], audience=audiences, issuer=issuer, options={"verify_exp": False}
            )
        except jwt.InvalidTokenError as error:
            raise Refused(str(error)) from error
        if claims["exp"] <= time.time() + later:
            raise Refused("Token expired")
        try:
            decision = iam.decide([self.roles[role]], iam.web_identity(arn, claims))
        except iam.PolicyError as error:  # what can't be evaluated is not allowed
            raise Refused(str(error)) from error
        if not decision.allowed:
            raise Refused(decision.reason)


@pytest.fixture(scope="module")
def chain(cluster, aws_services):
    """The platform on a cluster and its AWS side, both made by the playbooks; and STS, which knows both."""
    cluster.reset()
    aws_services.reset()
    # Its own address is the issuer of this API server's tokens.
    issuer = cluster.api("GET", "/.well-known/openid-configuration")["issuer"]
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks").stdout)
    variables = {
        "platform_aws_account_id": ACCOUNT,
        "platform_accepted_placeholders": [ACCOUNT],
        "irsa_oidc_issuer": issuer,
        "apply_wait": False,
    }
    cluster.playbook("site", "-e", json.dumps(variables))
    cluster.playbook("aws", "-e", json.dumps(variables), env=aws_services.env)
    made = everything(aws_services)
    (arn,) = [name for name in made if ":oidc-provider/" in name]
    roles = {name: made[name]["AssumeRolePolicyDocument"] for name in ROLES}
    found = types.SimpleNamespace(cluster=cluster, issuer=issuer, keys=keys, provider=arn, made=made)
    found.sts = Sts({issuer: (arn, made[arn]["ClientIDList"], keys)}, roles)
    yield found
    aws_services.reset()


def token(cluster, account, namespace="ml-models", audience=AUDIENCE, seconds=600):
    """A token as the kubelet asks for it."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
    body = {"spec": {"audiences": [audience] if isinstance(audience, str) else audience, "expirationSeconds": seconds}}
    return cluster.api("POST", path, body)["status"]["token"]


def policies(chain, role):
    return [document for name, document in chain.made[role].items() if name.startswith("modelyard-")]


# --- Who gets a role ---------------------------------------------------------------------------------


@pytest.mark.parametrize("account", CARRIERS)
def test_an_account_takes_its_own_role_and_no_other(chain, account):
    live = chain.cluster.get("serviceaccount", account, "-n", "ml-models")
    carried = live["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert carried == chain.made[CARRIERS[account]]["Arn"]
    given = token(chain.cluster, account)
    for role in ROLES:
        if role == CARRIERS[account]:
            chain.sts.assume(given, role)
        else:
            with pytest.raises(Refused, match="no statement allows"):
                chain.sts.assume(given, role)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_else_takes_it(chain, role):
    cluster = chain.cluster
    account = next(name for name, carried in CARRIERS.items() if carried == role)
    for namespace, name in (("ml-models", "default"), ("ai-platform", account), ("ml-models", f"{account}x")):
        if (namespace, name) != ("ml-models", "default"):
            cluster.kubectl("create", "serviceaccount", name, "-n", namespace)
        try:
            with pytest.raises(Refused, match="no statement allows"):
                chain.sts.assume(token(cluster, name, namespace), role)
        finally:
            if name != "default":
                cluster.kubectl("delete", "serviceaccount", name, "-n", namespace)


@pytest.mark.parametrize("audience", ["https://kubernetes.default.svc", "vault", "sts.amazonaws.com.cn"])
def test_another_audience_is_refused(chain, audience):
    with pytest.raises(Refused, match="Audience"):
        chain.sts.assume(token(chain.cluster, "vllm-sa", audience=audience), VLLM)


def test_two_audiences_are_not_the_one(chain):
    """The provider lists one of them; the trust policy compares all."""
    with pytest.raises(Refused, match="aud has 2 values"):
        chain.sts.assume(token(chain.cluster, "vllm-sa", audience=[AUDIENCE, "vault"]), VLLM)


def test_an_expired_token_is_refused(chain):
    given = token(chain.cluster, "vllm-sa", seconds=600)
    chain.sts.assume(given, VLLM)
    with pytest.raises(Refused, match="expired"):
        chain.sts.assume(given, VLLM, later=700)


def test_a_changed_or_a_foreign_signature_is_refused(chain):
    header, _, signature = token(chain.cluster, "vllm-sa").split(".")
    _, payload, _ = token(chain.cluster, "workflow-sa").split(".")
    with pytest.raises(Refused, match="Signature verification failed"):
        chain.sts.assume(f"{header}.{payload}.{signature}", WORKFLOWS)
    claims = jwt.decode(token(chain.cluster, "vllm-sa"), options={"verify_signature": False})
    unsigned = jwt.encode(
        claims,
        "",
        algorithm="none",
        headers={"kid": jwt.get_unverified_header(f"{header}.{payload}.{signature}")["kid"]},
    )
    with pytest.raises(Refused, match="alg"):
        chain.sts.assume(unsigned, VLLM)


def test_another_issuer_is_refused(chain):
    """A cluster of somebody else that signs the same claims: without a provider, and with one that the role does not name."""
    other = Sts({}, chain.sts.roles)
    with pytest.raises(Refused, match="No OpenIDConnect provider"):
        other.assume(token(chain.cluster, "vllm-sa"), VLLM)
    foreign = chain.provider.replace("oidc-provider/", "oidc-provider/elsewhere.example/")
    other.providers = {chain.issuer: (foreign, [AUDIENCE], chain.keys)}
    with pytest.raises(Refused, match="no statement allows"):
        other.assume(token(chain.cluster, "vllm-sa"), VLLM)


def test_each_condition_of_the_trust_is_needed(chain):
    """Without the one on `sub`, every account of the cluster has the role; without the one on `aud`, every token of it."""
    for claim, given in {
        "sub": token(chain.cluster, "default"),
        "aud": token(chain.cluster, "vllm-sa", audience=[AUDIENCE, "vault"]),
    }.items():
        trust = copy.deepcopy(chain.sts.roles[VLLM])
        for statement in trust["Statement"]:
            for condition in statement["Condition"].values():
                for key in [key for key in condition if key.endswith(f":{claim}")]:
                    del condition[key]
        Sts(chain.sts.providers, {VLLM: trust}).assume(given, VLLM)


# --- What a role may do ------------------------------------------------------------------------------

MODELS, ARTIFACTS = "my-triton-models", "my-mlflow-artifacts"
READS = ("GetObject", "HeadObject")
WRITES = ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "DeleteObject")


def may(chain, role, operation, bucket, key="", **more):
    return iam.decide(policies(chain, role), iam.s3(operation, bucket, key, account=ACCOUNT, **more)).allowed


def test_only_the_workflows_write(chain):
    for operation in READS:
        assert may(chain, TRITON, operation, MODELS, "resnet18_imagenette/config.pbtxt")
        assert may(chain, VLLM, operation, ARTIFACTS, "1/a/artifacts/adapter/adapter_config.json")
        assert may(chain, WORKFLOWS, operation, ARTIFACTS, "1/a/artifacts/adapter/adapter_config.json")
    for operation in WRITES:
        assert may(chain, WORKFLOWS, operation, MODELS, "x")
        for role in (TRITON, VLLM):
            assert not any(may(chain, role, operation, bucket, "x") for bucket in (MODELS, ARTIFACTS, "my-vllm-data"))


def test_each_role_stays_in_its_buckets(chain):
    assert not may(chain, TRITON, "GetObject", ARTIFACTS, "x")
    assert not may(chain, VLLM, "GetObject", MODELS, "x")
    for role in ROLES:
        for bucket in ("somebody-elses", f"{MODELS}-backup", f"{ARTIFACTS}x"):
            assert not any(may(chain, role, operation, bucket, "x") for operation in (*READS, *WRITES))
            assert not may(chain, role, "ListObjectsV2", bucket, prefix="")


def test_triton_asks_for_the_bucket_itself(chain):
    """HeadBucket carries no prefix, so a condition on one would refuse it."""
    assert may(chain, TRITON, "HeadBucket", MODELS)


# --- The report on real pods ---


def test_pods_that_no_webhook_saw_are_told_how_to_be_started_anew(chain, aws_services):
    """The pods of a deployment without EKS's webhook."""
    for bucket in (MODELS, ARTIFACTS, "my-vllm-data"):
        make(aws_services.client("s3"), bucket)
    webhook = {"name": "iam-for-pods.amazonaws.com", "sideEffects": "None", "admissionReviewVersions": ["v1"]}
    webhook["rules"] = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    webhook |= {"clientConfig": {"url": "https://127.0.0.1:23443/mutate"}, "failurePolicy": "Ignore"}
    made = {"metadata": {"name": "pod-identity-webhook"}, "webhooks": [webhook]}
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    chain.cluster.api("POST", path, made)
    variables = {"platform_aws_account_id": ACCOUNT, "irsa_oidc_issuer": chain.issuer, "irsa_report_strict": False}
    try:
        done = chain.cluster.playbook("identity", "-e", json.dumps(variables), env=aws_services.env)
    finally:
        chain.cluster.api("DELETE", f"{path}/pod-identity-webhook")
    found = " ".join((done.stdout + done.stderr).split())
    for account, name, container in (
        ("triton-inference", "triton-inference", "triton"),
        ("vllm-sa", "vllm", "load-adapters"),
    ):
        assert re.search(
            rf"ml-models/{account}: pods: (2 of 2 pods: )?pod {name}-[\w-]+, container {container}: no AWS_ROLE_ARN: it is older than the annotation, "
            rf"or the webhook did not answer; restart it: kubectl -n ml-models rollout restart deployment/{name}\b",
            found,
        ), found
    assert "ml-models/workflow-sa: none of its pods runs" in found


def make(s3, bucket):
    if bucket not in [found["Name"] for found in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws_api.REGION})


# --- A pod's own SDK ---------------------------------------------------------------------------------

SDK = """
import boto3, botocore.exceptions, sys
s3 = boto3.client("s3")
print(s3.get_object(Bucket=sys.argv[1], Key="adapter")["Body"].read().decode())
try:
    s3.put_object(Bucket=sys.argv[1], Key="adapter", Body=b"mine")
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"""


def test_an_sdk_with_a_pods_environment_reads_and_is_refused_a_write(chain, aws_services, tmp_path):
    """As EKS's webhook injects it: the role's ARN and the token's file. moto enforces the policies of the role."""
    s3 = aws_services.client("s3")
    make(s3, ARTIFACTS)
    s3.put_object(Bucket=ARTIFACTS, Key="adapter", Body=b"weights")
    (tmp_path / "token").write_text(token(chain.cluster, "vllm-sa"))
    pod = {key: value for key, value in aws_services.env.items() if key not in aws_api.CREDENTIALS}
    pod |= {
        "AWS_ROLE_ARN": chain.made[VLLM]["Arn"],
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_REGION": aws_api.REGION,
    }
    python = aws_api.python_of("services")
    reset = f"{aws_services.url}/moto-api/reset-auth"
    assert aws_services.http.request("POST", reset, body="1").status == 200  # the exchange itself needs no credential
    try:
        done = subprocess.run([python, "-c", SDK, ARTIFACTS], env=pod, capture_output=True, text=True, check=False)
    finally:
        aws_services.http.request("POST", reset, body="inf")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["weights", "AccessDenied"]
