"""The link `bucket` of the identity report, and roles of several accounts in one report; buckets and keys are moto's."""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.report import Reporter
from aws_api import ACCOUNT, ISSUER, OTHER, REGION, ROLES, options, run, service_account

KEY = "eks.amazonaws.com/role-arn"
BUCKET = "my-mlflow-artifacts"
TRITON = service_account("triton", "triton-inference", ROLES[0], reads=["s3://my-triton-models"])
VLLM = service_account("vllm", "vllm-sa", ROLES[1])


def chain(item, denied=(), faults=None, buckets=True, **given):
    """Follow the chain of a ServiceAccount; its bucket is made where that is missing."""
    wanted = options(service_accounts=[item], **given)
    account = aws_api.account_of(REGION)
    aws_api.Watch(account)
    if buckets:
        aws_api.make_buckets(account, wanted)
    watch = aws_api.Watch(account, denied, faults)
    notes = {f"{item['namespace']}/{item['name']}": {KEY: item["role_arn"]}}
    (found,) = Reporter(account, wanted, notes, ISSUER).chains()
    assert watch.writes == []
    found.calls = watch.calls
    return found


def judged(item, **given):
    """Look at the link; returns its state and what is said."""
    found = chain(item, **given)
    assert found.links["policy"] == "ok", found.links
    state = "broken" if found.broken else "unknown" if found.doubts else "ok"
    assert state == "ok" or [*found.doubts, found.broken][0] == "bucket", found.links
    return state, found.links["bucket"] if state != "ok" else " ".join(
        text for text in found.notices if ": bucket " in text
    )


@pytest.fixture
def made(cloud):
    run()
    return cloud


def policy_of(cloud, *statements, bucket=BUCKET):
    """Put a policy on the bucket, which is made."""
    chain(VLLM)
    document = policies.document(statements)
    cloud.client("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))


def statement(effect="Deny", principal=None, **more):
    place = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    return {"Effect": effect, "Principal": principal or "*", "Action": "s3:*", "Resource": place, **more}


def test_a_bucket_that_is_there_and_lets_the_role_in(made):
    assert judged(VLLM) == ("ok", "")
    assert judged(TRITON) == ("ok", "")


def test_a_bucket_that_is_not_there(made):
    state, said = judged(VLLM, buckets=False)
    assert (state, said) == ("broken", f"bucket {BUCKET} does not exist")


def owned_by(owner):
    """Answer HeadBucket as S3 does: moto knows no ExpectedBucketOwner."""
    return [
        lambda params: "403" if params["headers"].get("x-amz-expected-bucket-owner") not in (None, owner) else ""
    ] * 2


def test_a_bucket_of_another_account(made):
    state, said = judged(VLLM, faults={"s3:HeadBucket": owned_by(OTHER)})
    assert (state, f"bucket {BUCKET} belongs to another account than {ACCOUNT}" in said) == ("broken", True)
    state, said = judged(VLLM, denied=["s3:HeadBucket"])
    assert (state, "s3:ListBucket on my-mlflow-artifacts is denied" in said) == ("unknown", True)
    assert "or it belongs to another account" in said


def test_a_bucket_of_another_account_must_let_the_role_in(cloud):
    item = service_account(
        "vllm", "vllm-sa", ROLES[1], access=[{"bucket": BUCKET, "prefixes": ["7/"], "account_id": OTHER}]
    )
    run(service_accounts=[item], role_arns=[])
    state, said = judged(item)
    assert (state, said) == (
        "broken",
        f"bucket {BUCKET} has no policy, so it lets no role of another account than {OTHER} in",
    )
    policy_of(cloud, statement("Allow", {"AWS": f"arn:aws:iam::{ACCOUNT}:role/other"}))
    state, said = judged(item)
    assert (state, f"bucket {BUCKET} is {OTHER}'s, and its policy does not let {item['role_arn']} in" in said) == (
        "broken",
        True,
    )
    policy_of(cloud, statement("Allow", {"AWS": item["role_arn"]}))
    assert judged(item) == ("ok", "")
    policy_of(cloud, statement("Allow", {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}))
    assert judged(item) == ("ok", "")
    state, said = judged(item, denied=["s3:GetBucketPolicy"])
    assert (state, "s3:GetBucketPolicy on my-mlflow-artifacts is denied" in said) == ("unknown", True)


ROLE = {"AWS": VLLM["role_arn"]}
POLICIES = {
    "refuses everyone": (statement(), "broken", f"the policy of bucket {BUCKET} refuses ListObjectsV2"),
    "refuses the role": (statement(Sid="No", Principal=ROLE), "broken", "is denied by the statement No"),
    "refuses its account": (statement(principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}), "broken", "refuses"),
    "refuses another role": (statement(principal={"AWS": f"arn:aws:iam::{ACCOUNT}:role/x"}), "ok", ""),
    "refuses what is not encrypted": (statement(Condition={"Bool": {"aws:SecureTransport": "false"}}), "ok", ""),
    "refuses other networks": (
        statement(Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}), "unknown", "aws:SourceVpce",
    ),
    "refuses other organizations": (
        statement(Condition={"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}), "unknown", "aws:PrincipalOrgID",
    ),
    "refuses a write": (statement(Action="s3:PutObject"), "ok", ""),
    "refuses other folders": (statement(NotResource=f"arn:aws:s3:::{BUCKET}/7/*", Action="s3:GetObject"), "ok", ""),
    "refuses all but the role": ({**statement(), "NotPrincipal": ROLE}, "unknown", "sessions of the role count as others"),
    "refuses all but another": ({**statement(), "NotPrincipal": {"AWS": "arn:aws:iam::1:role/x"}}, "broken", "refuses"),
    "allows the role": (statement("Allow", ROLE), "ok", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_the_buckets_policy(made, name):
    given, state, said = POLICIES[name]
    drop = {"NotPrincipal": "Principal", "NotResource": "Resource"}
    given = {key: value for key, value in given.items() if key not in {drop[k] for k in drop if k in given}}
    policy_of(made, given)
    found = judged(VLLM)
    assert (found[0], said in found[1]) == (state, True), found


def test_the_region(made):
    """Triton's client follows no redirect; boto3 does."""
    elsewhere = {**TRITON, "region": "eu-west-1"}
    state, said = judged(elsewhere)
    assert (
        state,
        f"is in {REGION}, and Triton asks in eu-west-1 and follows no redirect: set triton_aws_region" in said,
    ) == ("broken", True)
    state, said = judged({**VLLM, "region": "eu-west-1"})
    assert (state, "its pods ask in eu-west-1: boto3 asks again there" in said) == ("ok", True)


# --- Encryption -------------------------------------------------------------------------------------------


@pytest.fixture
def key(made):
    """The bucket's default encryption is a key of the account."""
    chain(VLLM)
    found = made.client("kms").create_key()["KeyMetadata"]["Arn"]
    encrypt(made, found)
    return found


def encrypt(cloud, key):
    default = {"SSEAlgorithm": "aws:kms", **({"KMSMasterKeyID": key} if key else {})}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]}
    cloud.client("s3").put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration=rules)


def with_key(key, **more):
    """The ServiceAccount whose access names the key, and its role."""
    item = service_account(
        "vllm", "vllm-sa", ROLES[1], access=[{"bucket": BUCKET, "prefixes": ["7/"], "kms_key_arn": key, **more}]
    )
    run(service_accounts=[item], role_arns=[], buckets={})
    return item


def test_a_key_that_the_role_may_not_use(cloud, key):
    state, said = judged(VLLM)
    assert state == "broken"
    assert f"bucket {BUCKET} is encrypted with {key}: the role lacks kms:Decrypt for Decrypt" in said
    assert "set kms_key_arn in vllm_access" in said
    assert judged(with_key(key)) == ("ok", "")


def test_a_key_by_its_id_or_alias(cloud, key):
    item = with_key(key)
    cloud.client("kms").create_alias(AliasName="alias/models", TargetKeyId=key)
    for name in (key.rpartition("/")[2], "alias/models", key.replace(f"key/{key.rpartition('/')[2]}", "alias/models")):
        encrypt(cloud, name)
        assert judged(item) == ("ok", ""), name
    assert judged(item, denied=["kms:DescribeKey"])[0] == "unknown"


def test_the_keys_of_s3_and_of_aws_need_no_right(made):
    chain(VLLM)
    for name in ("", "alias/aws/s3"):
        encrypt(made, name)
        assert judged(VLLM) == ("ok", "")
    item = service_account(
        "vllm", "vllm-sa", ROLES[1], access=[{"bucket": BUCKET, "prefixes": ["7/"], "account_id": OTHER}]
    )
    run(service_accounts=[item], role_arns=[], buckets={})
    state, said = judged(item)
    assert (state, "the key aws/s3, which no role of another account" in said) == ("broken", True)


def key_policy(cloud, key, *statements):
    document = json.dumps(policies.document(statements))
    cloud.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=document)


def about_key(effect, principal, **more):
    return {"Effect": effect, "Principal": {"AWS": principal}, "Action": "kms:*", "Resource": "*", **more}


def test_the_keys_policy(cloud, key):
    item = with_key(key)
    account = about_key("Allow", f"arn:aws:iam::{ACCOUNT}:root")
    for found, state, said in (
        ([account], "ok", ""),
        ([about_key("Allow", item["role_arn"])], "ok", ""),
        (
            [account, about_key("Deny", item["role_arn"], Sid="No")],
            "broken",
            f"the policy of its key {key} refuses Decrypt",
        ),
        (
            [about_key("Allow", f"arn:aws:iam::{ACCOUNT}:role/x")],
            "unknown",
            "unless a grant of the key does (grants are not read)",
        ),
        ([about_key("Allow", "*", Condition={"StringEquals": {"kms:CallerAccount": ACCOUNT}})], "ok", ""),
        (
            [about_key("Allow", "*", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})],
            "unknown",
            "aws:PrincipalOrgID",
        ),
    ):
        key_policy(cloud, key, *found)
        result = judged(item)
        assert (result[0], said in result[1]) == (state, True), (found, result)


def test_a_key_that_is_gone_or_disabled(cloud, key):
    item = with_key(key)
    cloud.client("kms").disable_key(KeyId=key.rpartition("/")[2])
    assert judged(item) == ("broken", f"its key {key} is Disabled")
    encrypt(cloud, key.replace(key.rpartition("/")[2], "0" * 8 + "-0000-0000-0000-" + "0" * 12))
    state, said = judged(item)
    assert (state, said.endswith("does not exist")) == ("broken", True)


@pytest.mark.parametrize(
    "right", ["kms:DescribeKey", "kms:GetKeyPolicy", "s3:GetBucketPolicy", "s3:GetEncryptionConfiguration"]
)
def test_what_may_not_be_read_is_not_judged(cloud, key, right):
    state, said = judged(with_key(key), denied=[right])
    assert (state, right in said, "docs/aws-policy.json" in said) == ("unknown", True, True), said


# --- What Triton's client calls ---------------------------------------------------------------------------


def test_triton_without_head_bucket_is_told(cloud):
    """Its client calls HeadBucket, which has no prefix."""
    item = service_account(
        "triton", "triton-inference", ROLES[0], reads=["s3://my-triton-models"], access=[{"bucket": "my-triton-models"}]
    )
    said = "triton_access: the bucket my-triton-models needs head_bucket: true, since Triton's client calls HeadBucket"
    assert said in run(service_accounts=[item], role_arns=[]).notices
    assert run(service_accounts=[TRITON], role_arns=[], check=True).notices == []
    found = chain(item)
    assert found.broken == "policy"
    assert (
        "lacks s3:ListBucket for HeadBucket (Triton's client calls it: set head_bucket: true in triton_access)"
        in found.links["policy"]
    )


def test_each_bucket_is_read_once(made):
    accounts = [TRITON, {**TRITON, "name": "triton-inference-gpu"}]
    wanted = options(service_accounts=accounts)
    account = aws_api.account_of(REGION)
    watch = aws_api.Watch(account)
    notes = {f"{item['namespace']}/{item['name']}": {KEY: item["role_arn"]} for item in accounts}
    found = Reporter(account, wanted, notes, ISSUER).chains()
    assert [item.state for item in found] == ["closed", "closed"] or {item.broken for item in found} == {"trust"}
    reads = [name for name in watch.calls if name.startswith(("s3:", "kms:"))]
    assert sorted(reads) == ["s3:GetBucketEncryption", "s3:GetBucketPolicy", "s3:HeadBucket"]


# --- Several accounts ---------------------------------------------------------------------------------------


@pytest.fixture
def two(cloud, monkeypatch, tmp_path):
    """A role in another account, made with its credential; a profile of the AWS configuration leads there."""
    run()
    there = service_account(
        "mlserver",
        "mlserver-sa",
        "shared",
        OTHER,
        access=[{"bucket": "shared-models", "account_id": OTHER}],
        variable="mlserver_access",
    )
    keys = cloud.credentials(OTHER)
    here = {name: aws_api.CREDENTIALS[name] for name in aws_api.CREDENTIALS}
    with monkeypatch.context() as other:
        for name, value in keys.items():
            other.setenv(name, value)
        run(account_id=OTHER, service_accounts=[there], role_arns=[], buckets={"shared-models": {"account_id": OTHER}})
    assert all(aws_api.os.environ[name] == value for name, value in here.items())
    lines = "".join(f"{name.lower()} = {value}\n" for name, value in keys.items())
    (tmp_path / "config").write_text(f"[profile other]\n{lines}", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return there


def report(*items, **given):
    wanted = options(service_accounts=list(items), **given)
    account = aws_api.account_of(REGION)
    aws_api.Watch(account)
    aws_api.make_buckets(account, options(service_accounts=[VLLM]))
    notes = {f"{item['namespace']}/{item['name']}": {KEY: item["role_arn"]} for item in items}
    return {item.service_account: item for item in Reporter(account, wanted, notes, ISSUER).chains()}


@pytest.mark.parametrize("profile", ["other", "assumed"])
def test_roles_of_two_accounts_in_one_report(two, tmp_path, profile):
    """With keys of its own, or with those of the environment, as AWX gives them, and a role to assume."""
    with (tmp_path / "config").open("a", encoding="utf-8") as file:
        file.write(f"[profile assumed]\nrole_arn = arn:aws:iam::{OTHER}:role/reader\ncredential_source = Environment\n")
    found = report(VLLM, two, profiles={OTHER: profile})
    assert {name: item.state for name, item in found.items()} == {
        "ml-models/vllm-sa": "closed",
        "ml-models/mlserver-sa": "closed",
    }


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ({}, f"there is no credential for the account {OTHER}, only for {ACCOUNT}: give irsa_aws_profiles"),
        ({OTHER: "nobody"}, f"irsa_aws_profiles.{OTHER}: The config profile (nobody) could not be found"),
        ({"21098765432": "other"}, "'21098765432' in irsa_aws_profiles is no account: put 12 digits in quotes"),
        ({ACCOUNT: "x", OTHER: "here"}, f"irsa_aws_profiles.{OTHER}: the profile here leads to the account {ACCOUNT}"),
    ],
)
def test_a_role_whose_account_has_no_credential_is_not_judged_and_the_others_are(two, tmp_path, profiles, said):
    lines = "".join(f"{name.lower()} = {value}\n" for name, value in aws_api.CREDENTIALS.items())
    with (tmp_path / "config").open("a", encoding="utf-8") as file:
        file.write(f"[profile here]\n{lines}")
    found = report(two, VLLM, profiles=profiles)
    assert found["ml-models/vllm-sa"].state == "closed"
    there = found["ml-models/mlserver-sa"]
    assert (there.state, there.doubts[0]) == ("unknown", "account")
    assert said in there.links["account"]
    assert there.links["annotation"] == there.links["issuer"] == "ok"
    assert there.doubts[1:] == ["provider", "role", "trust", "policy", "bucket"]


def test_what_aws_does_not_let_be_read_does_not_end_the_report(made):
    for right, link in (
        ("iam:GetRole", "role"),
        ("iam:GetOpenIDConnectProvider", "provider"),
        ("iam:ListRolePolicies", "policy"),
    ):
        found = chain(VLLM, denied=[right])
        assert (found.state, found.doubts[0], right in found.links[link]) == ("unknown", link, True)


def managed(cloud, name, effect, action="s3:GetObject"):
    client = cloud.client("iam")
    document = policies.document([{"Sid": "Mine", "Effect": effect, "Action": action, "Resource": "*"}])
    arn = client.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    client.attach_role_policy(RoleName=ROLES[1], PolicyArn=arn)
    return arn


@pytest.mark.parametrize("right", ["iam:GetPolicy", "iam:GetPolicyVersion"])
def test_a_managed_policy_that_may_not_be_read(made, right):
    arn = managed(made, "theirs", "Allow")
    found = chain(VLLM, denied=[right])
    assert (found.state, found.doubts) == ("unknown", ["policy"])
    assert arn in found.links["policy"]
    # What another policy refuses is refused, whatever this one says.
    refused = policies.document([{"Sid": "No", "Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}])
    made.client("iam").put_role_policy(RoleName=ROLES[1], PolicyName="no", PolicyDocument=json.dumps(refused))
    found = chain(VLLM, denied=[right])
    assert (found.broken, "is denied by the statement No" in found.links["policy"]) == ("policy", True)
