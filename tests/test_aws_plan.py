"""What the plan finds before the first write, of what AWS would refuse or a pod would miss."""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, policies, used
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.buckets import Buckets
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from aws_api import ACCOUNT, OTHER, REGION, ROLES, bucket_settings, options, policy_name, replay, run, service_account
from botocore.client import BaseClient
from botocore.exceptions import ClientError

WEST = "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
POINT = f"arn:aws:s3:{REGION}:{ACCOUNT}:accesspoint/point"
ROLE = ROLES[1]


def one(*access, role=ROLE, **more):
    """A run with one ServiceAccount that may use this."""
    return {
        "service_accounts": [service_account("vllm", "vllm-sa", role, access=list(access))],
        "role_arns": [],
        "buckets": {},
        **more,
    }


def written_policy(cloud, role=ROLE, **place):
    return cloud.client("iam", **place).get_role_policy(RoleName=role, PolicyName=policy_name())["PolicyDocument"]


def refused(**given):
    with pytest.raises(Refused) as error:
        run(**given)
    return str(error.value)


def test_grants_on_one_bucket_are_written_as_one(cloud):
    grants = [{"bucket": "data", "prefixes": ["a"]}, {"bucket": "data", "prefixes": ["b"], "write": True}]
    run(**one(*grants))
    sids = [item["Sid"] for item in written_policy(cloud)["Statement"]]
    assert sids == ["ListData", "ReadData", "WriteData"]
    assert run(**one(*reversed(grants))).writes == []


def test_a_bucket_with_the_managed_key(cloud):
    given = one({"bucket": "data", "kms_key_arn": "aws/s3"}, buckets={"data": {"kms_key_arn": "aws/s3"}})
    run(**given)
    (rule,) = bucket_settings(cloud.client("s3"), "data")["get_bucket_encryption"]["ServerSideEncryptionConfiguration"][
        "Rules"
    ]
    assert rule == {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    assert run(**given).writes == []


def test_a_bucket_in_the_accounts_own_namespace_is_asked_for_as_one(cloud):
    name = f"models-{ACCOUNT}-{REGION}-an"
    plan = run(check=True, **one({"bucket": name}, buckets={name: {}})).plan
    (made,) = (write for write in plan.writes if write.operation == "create_bucket")
    assert made.arguments["BucketNamespace"] == "account-regional"


# --- A bucket of another account -----------------------------------------------------------------------


def guest(cloud, monkeypatch, *access, **more):
    """A run with the credential of the other account, which the role is in."""
    for name, value in cloud.credentials(OTHER).items():
        monkeypatch.setenv(name, value)
    return {**one(*access, role=f"arn:aws:iam::{OTHER}:role/{ROLE}"), "account_id": OTHER, **more}


def resource_account(cloud):
    statement = written_policy(cloud, account=OTHER)["Statement"][0]
    return statement["Condition"]["StringEquals"]["aws:ResourceAccount"]


@pytest.mark.parametrize(
    ("entry", "buckets", "owner"),
    [
        ({}, {"data": {}}, ACCOUNT),
        ({}, {"data": {"account_id": OTHER}}, OTHER),
        ({"account_id": ACCOUNT}, {}, ACCOUNT),
        ({}, {}, OTHER),
    ],
)
def test_a_role_of_another_account_has_the_account_of_the_bucket(cloud, monkeypatch, entry, buckets, owner):
    if "data" in buckets and owner == ACCOUNT:
        run(**one({"bucket": "data"}, buckets=buckets))
    given = guest(cloud, monkeypatch, {"bucket": "data", **entry}, buckets=buckets)
    run(**given)
    assert resource_account(cloud) == owner
    assert run(**given).writes == []


def test_a_bucket_that_is_not_the_roles_is_told(cloud, monkeypatch):
    cloud.client("s3").create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": REGION})
    given = guest(cloud, monkeypatch, {"bucket": "data"})
    watch = {"s3:HeadBucket": ["403", ""]}
    assert f"vllm_access[0]: the bucket data is not account {OTHER}'s" in refused(**given, faults=watch)
    with_it = guest(cloud, monkeypatch, {"bucket": "data", "account_id": ACCOUNT})
    assert "whose bucket" not in str(run(**with_it, faults={"s3:HeadBucket": ["403", "403"]}).notices)


def test_a_bucket_of_which_nothing_can_be_read_is_told(cloud, monkeypatch):
    given = guest(cloud, monkeypatch, {"bucket": "data"})
    (said,) = run(**given, denied=["s3:ListBucket"]).notices
    assert f"The policy takes it for account {OTHER}'s" in said


def test_the_policy_is_judged_by_the_account_of_the_bucket(cloud):
    """For a bucket of this name in the role's own account it would not do."""
    run(**one({"bucket": "data", "account_id": OTHER}))
    document = written_policy(cloud)
    for given, right in (({"account_id": OTHER}, True), ({}, False)):
        asked = policies.requests({"bucket": "data", **given}, ACCOUNT, "aws")
        assert all(iam.decide([document], request).allowed is right for _, request in asked)


# --- Where it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [{"kms_key_arn": KEY}, {"access_point": POINT}], ids=["key", "access point"])
def test_what_is_of_another_region_than_the_bucket_is_told(cloud, entry):
    cloud.client("s3", region=WEST).create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": WEST})
    (key,) = entry
    assert f"vllm_access[0].{key}: the bucket data is in {WEST}" in refused(**one({"bucket": "data", **entry}))
    here = {key: entry[key].replace(REGION, WEST)}
    run(**one({"bucket": "data", **here}))


def test_a_key_of_another_region_is_named_where_the_bucket_is_not_there_yet(cloud):
    far = {"bucket": "data", "kms_key_arn": KEY.replace(REGION, WEST)}
    (said,) = run(**one(far)).notices
    assert said.startswith("vllm_access[0].kms_key_arn: where the bucket data is can't be read")
    assert run(**one({"bucket": "data", "kms_key_arn": KEY})).notices == []
    # Nor need a run have rights on the bucket.
    assert run(**one({"bucket": "data", "kms_key_arn": KEY}), denied=["s3:ListBucket"]).notices == []


def test_s3_tells_the_region_with_a_denial():
    class Denies:
        id, region = ACCOUNT, REGION

        def find(self, *_args, **_more):
            raise AwsError("denied", "403", bucket_region=WEST)

    plan = Plan()
    used.Used(Denies(), options(**one({"bucket": "data", "account_id": ACCOUNT, "kms_key_arn": KEY})), plan).compare()
    (said,) = plan.problems
    assert f"the bucket data is in {WEST}" in said


def test_the_region_of_a_denial_is_that_of_its_header(cloud, monkeypatch):
    def denied(_client, operation, _arguments):
        headers = {"HTTPHeaders": {"x-amz-bucket-region": WEST}}
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": headers}, operation)

    here = aws_api.account_of(REGION)
    here.client("s3")
    monkeypatch.setattr(BaseClient, "_make_api_call", denied)
    with pytest.raises(AwsError) as error:
        here.find("s3", "head_bucket", Bucket="data")
    assert error.value.bucket_region == WEST


def test_no_more_is_asked_of_buckets_that_need_no_more(cloud):
    assert "s3:HeadBucket" not in run(**one({"bucket": "data"})).calls


# --- What IAM counts ---------------------------------------------------------------------------------------


def large(characters):
    """Access whose policy is about as large."""
    return {"bucket": "data", "prefixes": [f"experiment-{number:04}/" for number in range(characters // 59)]}


def size(document):
    return len(json.dumps(document, separators=(",", ":")))


def test_a_role_is_made_with_what_all_its_policies_may_hold_and_no_more(cloud):
    fits = large(10000)
    assert 9000 < size(policies.permissions([fits], ACCOUNT, "aws")) <= 10240
    run(**one(fits))
    cloud.reset()
    said = refused(**one(large(12000)))
    assert f"the policy {policy_name()} of arn:aws:iam::{ACCOUNT}:role/{ROLE} has" in said
    assert "IAM takes 10240" in said
    assert cloud.client("iam").list_roles()["Roles"] == []


def test_the_policies_of_other_clusters_and_of_others_count(cloud):
    run(**one(large(6000)))
    cloud.client("iam").put_role_policy(
        RoleName=ROLE,
        PolicyName="theirs",
        PolicyDocument=json.dumps(policies.permissions([large(3000)], ACCOUNT, "aws")),
    )
    assert run(**one(large(6500))).writes
    second = one(large(3000), cluster="prod", oidc_issuer=f"{aws_api.ISSUER}B")
    said = refused(**second)
    assert f"(with {policy_name()}, theirs)" in said


def test_a_policy_that_is_taken_over_is_there_twice_for_a_while(cloud):
    replay(cloud, "prod", about=lambda service, _arguments: service == "iam")
    old = policies.permissions([large(6000)], ACCOUNT, "aws")
    cloud.client("iam").put_role_policy(RoleName=ROLE, PolicyName="modelyard-prod", PolicyDocument=json.dumps(old))
    said = refused(**one(large(6000), cluster="prod"))
    assert "(with modelyard-prod)" in said
    assert "or delete modelyard-prod, which this run replaces, first" in said


def test_more_tags_than_aws_takes_are_told(cloud):
    run(**one({"bucket": "data"}))
    tags = [{"Key": f"theirs-{number}", "Value": "1"} for number in range(46)]
    cloud.client("iam").tag_role(RoleName=ROLE, Tags=tags)
    assert run(**one({"bucket": "data"}, tags={"team": "ml", "one": "1"})).writes
    said = refused(**one({"bucket": "data"}, tags={"team": "ml", "one": "1", "two": "2"}))
    assert f"role {ROLE} would have 51 tags, and AWS takes 50" in said


def test_a_name_that_eks_has_not_is_not_asked_about(cloud):
    watch = run(**one({"bucket": "data"}, cluster="prod.eu"))
    assert not [call for call in watch.calls if call.startswith("eks:")]
    empty = {"service_accounts": [], "role_arns": [], "oidc_issuer": ""}
    assert not [call for call in run(**empty, cluster="prod.eu").calls if call.startswith("eks:")]


def test_more_tags_than_a_bucket_takes_are_told(cloud):
    """Those of AWS's own do not count."""
    own = {"aws:cloudformation:stack-name": "x"}
    for theirs, problems in ((50, []), (51, ["x would have 51 tags, and AWS takes 50"])):
        part = Buckets(aws_api.account_of(REGION), options(), Plan())
        part.check_tags("x", own | {f"theirs-{number}": "1" for number in range(theirs)})
        assert [said.partition(":")[0] for said in part.plan.problems] == problems
    given = one({"bucket": "data"}, buckets={"data": {}})
    run(**given)
    s3 = cloud.client("s3")
    tags = s3.get_bucket_tagging(Bucket="data")["TagSet"]
    theirs = [{"Key": f"theirs-{number}", "Value": "1"} for number in range(47)]
    s3.put_bucket_tagging(Bucket="data", Tagging={"TagSet": [*tags, *theirs]})
    assert run(**given).writes == []
    assert "bucket data would have 51 tags" in refused(**given, tags={"team": "ml", "one": "1"})


def test_what_takes_tags_back_is_named_by_its_right(cloud):
    cloud.client("s3").create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": REGION})
    given = one({"bucket": "data"}, buckets={"data": {}}, adopt=["data"])
    denied = ["s3:PutBucketVersioning", "s3:DeleteBucketTagging", "s3:DeleteBucketEncryption"]
    with pytest.raises(AwsError, match=r"Not rolled back: .*\(s3:PutBucketTagging on data is denied"):
        run(**given, denied=denied)


def test_a_role_that_differs_from_another_in_case_alone_is_told(cloud):
    trust = policies.document([])
    cloud.client("iam").create_role(RoleName="Reader", AssumeRolePolicyDocument=json.dumps(trust))
    said = refused(**one({"bucket": "data"}, role="reader"))
    assert "role reader: the account has Reader, and IAM takes both names for one" in said


def test_a_boundary_that_is_not_there_is_told(cloud):
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/limit"
    given = one({"bucket": "data"}, permissions_boundary=boundary)
    assert f"the account has no policy {boundary}" in refused(**given)
    written = policies.permissions([{"bucket": "data"}], ACCOUNT, "aws")
    cloud.client("iam").create_policy(PolicyName="limit", PolicyDocument=json.dumps(written))
    run(**given, denied=["iam:GetPolicy"])
