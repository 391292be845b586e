"""The computed AWS side: names, policies, merges; and the inputs that are refused."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import checks, iam, names, ownership, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner

ACCOUNT = "123456789012"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1"


def test_names():
    assert names.provider_arn("https://h/id/A", ACCOUNT, "aws-cn") == f"arn:aws-cn:iam::{ACCOUNT}:oidc-provider/h/id/A"
    assert names.role_path_of(f"arn:aws:iam::{ACCOUNT}:role/r") == "/"
    assert names.role_path_of(f"arn:aws:iam::{ACCOUNT}:role/a/b/r") == "/a/b/"
    assert names.role_name_of(f"arn:aws:iam::{ACCOUNT}:role/a/b/r") == "r"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://b", ("b", "")),
        ("s3://b/x/y/", ("b", "x/y")),
        ("s3://https://minio:9000/b/x", ("", "")),
        ("s3://minio:9000/b", ("", "")),
        ("/models", ("", "")),
    ],
)
def test_s3_locations(url, found):
    assert names.s3_location(url) == found


def statement(name, host="h/id/A", account=ACCOUNT):
    return policies.web_identity_statement(
        Owner(account, "eu-central-1", name).sid,
        f"arn:aws:iam::{account}:oidc-provider/{host}",
        ["system:serviceaccount:ml:a"],
    )


def merged(live, sid, statement_, *tags):
    return policies.merge_trust(live, sid, statement_, lambda found: ownership.owned_sid(found, tags))


def test_statements_are_merged_by_cluster_sorted_and_stable():
    one, two = statement("b-cluster"), statement("a-cluster", "h/id/B")
    tag = Owner(ACCOUNT, "eu-central-1", "b-cluster").tag
    both, foreign = merged(policies.document([one]), two["Sid"], two, tag)
    assert [item["Sid"] for item in both["Statement"]] == sorted([one["Sid"], two["Sid"]])
    assert foreign == []
    assert merged(both, two["Sid"], two, tag)[0] == both
    assert merged(both, two["Sid"], None, tag)[0] == policies.document([one])


@pytest.mark.parametrize("tag", ["", Owner(ACCOUNT, "eu-west-1", "x").tag, "modelyard/cluster/y", "x"])
def test_a_statement_of_no_cluster_that_the_tags_name_is_foreign(tag):
    for sid in ("ModelyardStaging", "Modelyardzzzzzzzz", "xModelyarda1b2c3d4", statement("x")["Sid"], None):
        other = {**statement("x"), "Sid": sid} if sid else {k: v for k, v in statement("x").items() if k != "Sid"}
        mine = statement("mine")
        found = merged(policies.document([other]), mine["Sid"], mine, tag)
        assert found == (policies.document([mine]), [other])


def test_the_tag_of_an_earlier_version_stands_for_all_clusters_of_its_name():
    mine, other = statement("mine"), statement("x", account="210987654321")
    assert merged(policies.document([other]), mine["Sid"], mine, "modelyard/cluster/x")[1] == []


def test_subjects_are_sorted_and_alone_when_one():
    found = policies.web_identity_statement("S", "arn:aws:iam::1:oidc-provider/h", ["b", "a", "b"])
    assert found["Condition"]["StringEquals"] == {"h:aud": "sts.amazonaws.com", "h:sub": ["a", "b"]}


def test_policies_that_mean_the_same_are_the_same():
    one = policies.document([{"Action": ["b", "a"], "Resource": "r", "Condition": {"Bool": {"k": "true"}}}])
    other = {
        "Statement": {"Condition": {"Bool": {"k": True}}, "Resource": ["r"], "Action": ["a", "b"]},
        "Version": "2012-10-17",
    }
    assert policies.same(one, other)
    assert not policies.same(one, {**other, "Version": "2008-10-17"})


def test_one_bucket_twice_has_names_that_differ():
    entries = [
        {"bucket": "a-b", "prefixes": ["x"]},
        {"bucket": "a-b", "prefixes": ["y/"], "write": True},
        {"bucket": "a.b"},
    ]
    sids = [item["Sid"] for item in policies.permissions(entries, ACCOUNT, "aws")["Statement"]]
    assert len(set(sids)) == len(sids) == 7
    assert all(sid.isalnum() for sid in sids)


def test_the_same_entry_of_two_servers_is_one():
    entries = [
        {"bucket": "b", "prefixes": ["x/"]},
        {"bucket": "b", "prefixes": ["/x"], "write": False, "kms_key_arn": ""},
    ]
    assert len(policies.permissions(entries, ACCOUNT, "aws")["Statement"]) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"bucket": "b"},
        {"bucket": "b", "head_bucket": True},
        {"bucket": "b", "prefixes": ["x", "y/z/"], "write": True},
        {"bucket": "b", "write": True, "kms_key_arn": KEY, "account_id": "210987654321"},
    ],
)
def test_a_policy_allows_all_that_its_client_does(entry):
    document = policies.permissions([entry], ACCOUNT, "aws")
    for name, request in policies.requests(entry, ACCOUNT, "aws"):
        assert iam.decide([document], request).allowed, name


def test_a_key_in_china_is_used_through_chinas_s3():
    entry = {"bucket": "b", "kms_key_arn": "arn:aws-cn:kms:cn-north-1:123456789012:key/1"}
    found = policies.permissions([entry], ACCOUNT, "aws-cn")["Statement"][-1]
    assert found["Condition"]["StringEquals"]["kms:ViaService"] == "s3.cn-north-1.amazonaws.com.cn"


def test_a_bucket_refuses_connections_that_are_not_encrypted():
    request = iam.s3("GetObject", "b", "k", tls=False)
    asked = iam.Request(request.action, request.resource, request.context, ("AWS", f"arn:aws:iam::{ACCOUNT}:role/r"))
    assert iam.decide([policies.document([policies.tls_only("b", "aws")])], asked).denied


OPTIONS = {
    "partition": "aws",
    "region": "eu-central-1",
    "account_id": ACCOUNT,
    "cluster_account_id": ACCOUNT,
    "permissions_boundary": "",
    "max_session_seconds": 3600,
    "oidc_issuer": "",
    "pod_identity": False,
    "tags": {},
    "buckets": {},
    "service_accounts": [],
}


MODELS = {"bucket": "models", "prefixes": ["a"]}


def carrier(*access, variable="triton_access", role=f"arn:aws:iam::{ACCOUNT}:role/r", reads=()):
    """A ServiceAccount that may use this."""
    who = {"component": "triton", "namespace": "ml", "name": "x", "role_arn": role, "reads": list(reads)}
    return {**who, "access": list(access), "variable": variable}


def test_the_defaults_are_right():
    assert checks.check({**OPTIONS, "service_accounts": [carrier(MODELS)]}) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"permissions_boundary": "limit"}, "irsa_permissions_boundary is 'limit': must be the ARN"),
        ({"permissions_boundary": "arn:aws:iam::999999999999:policy/x"}, "irsa_permissions_boundary"),
        ({"permissions_boundary": f"arn:aws-cn:iam::{ACCOUNT}:policy/x"}, "irsa_permissions_boundary"),
        ({"max_session_seconds": 3599}, "must be from 3600 to 43200"),
        ({"max_session_seconds": 43201}, "must be from 3600 to 43200"),
        ({"oidc_issuer": "http://h"}, "begins with https://"),
        ({"oidc_issuer": "https://h/"}, "does not end with /"),
        ({"pod_identity": True, "cluster_account_id": "210987654321"}, "association takes no role of another"),
        ({"tags": {"managed-by": "me"}}, "irsa_tags.managed-by"),
        ({"tags": {"modelyard/cluster/x": "1"}}, "choose another"),
        (
            {"buckets": {"models": {"noncurrent_days": 0}}},
            "irsa_buckets.models.noncurrent_days is 0: must be 1 or more",
        ),
        ({"buckets": {"Models": {}}}, "irsa_buckets.Models"),
    ],
)
def test_inputs_that_are_refused(given, message):
    assert message in "\n".join(checks.check({**OPTIONS, **given}))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"bucket": "s3://b"}, "vllm_profiles.x.access[1].bucket is 's3://b'"),
        ({"bucket": "b*d"}, "must be the name of a bucket"),
        ({"bucket": "bbb", "prefixes": ["a*"]}, "without wildcards"),
        ({"bucket": "bbb", "prefixes": ["${aws:username}"]}, "without wildcards and policy variables"),
        ({"bucket": "bbb", "prefixes": ["/"]}, "none for the whole bucket"),
        ({"bucket": "bbb", "kms_key_arn": KEY.replace("key/", "alias/")}, "not an alias"),
        ({"bucket": "bbb", "kms_key_arn": KEY.replace("aws:kms", "aws-cn:kms")}, "must be the ARN of a key"),
    ],
)
def test_access_that_is_refused(entry, message):
    account = carrier(MODELS, entry, variable="vllm_profiles.x.access")
    (said,) = checks.check({**OPTIONS, "service_accounts": [account]})
    assert said.startswith("vllm_profiles.x.access[1].")
    assert message in said


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (carrier(MODELS, role=f"arn:aws-cn:iam::{ACCOUNT}:role/r"), "must be in the partition aws"),
        (carrier(variable="irsa_workflow_access"), "irsa_workflow_access is []: names no bucket"),
        (carrier(MODELS, reads=["s3://other"]), "must hold the bucket 'other'"),
        (carrier(MODELS, reads=["s3://models"]), "the folder ''"),
        (carrier(MODELS, reads=["s3://models/ab"]), "triton_access is [{'bucket': 'models', 'prefixes': ['a']}]: "),
        (carrier(MODELS, reads=["s3://models/ab"]), "the folder 'ab'"),
    ],
)
def test_accounts_that_are_refused(account, message):
    assert message in "\n".join(checks.check({**OPTIONS, "service_accounts": [account]}))


def test_a_bucket_of_ours_is_used_with_its_own_key():
    """Of every account that uses it."""
    accounts = [carrier(MODELS), carrier({"bucket": "b-1"}, MODELS, variable="vllm_access")]
    said = checks.check({**OPTIONS, "buckets": {"models": {"kms_key_arn": KEY}}, "service_accounts": accounts})
    assert [line.partition(" ")[0] for line in said] == ["triton_access[0].kms_key_arn", "vllm_access[1].kms_key_arn"]
    assert all("the key of irsa_buckets.models" in line for line in said)
    right = [carrier({**MODELS, "kms_key_arn": KEY})]
    assert checks.check({**OPTIONS, "buckets": {"models": {"kms_key_arn": KEY}}, "service_accounts": right}) == []


@pytest.mark.parametrize("reads", ["s3://models/a", "s3://models/a/b", "s3://https://minio:9000/other", "/models"])
def test_what_triton_reads_and_may(reads):
    assert checks.check({**OPTIONS, "service_accounts": [carrier(MODELS, reads=[reads])]}) == []


def test_an_account_reads_by_its_own_access():
    """Whatever another that carries the same role may."""
    accounts = [
        carrier(MODELS, reads=["s3://other"]),
        carrier({"bucket": "other"}, variable="triton_profiles.x.access"),
    ]
    (said,) = checks.check({**OPTIONS, "service_accounts": accounts})
    assert said.startswith("triton_access is ")


def test_an_account_whose_role_is_another_accounts_needs_no_access_here():
    account = carrier(role="arn:aws:iam::210987654321:role/r", reads=["s3://other"])
    assert checks.check({**OPTIONS, "service_accounts": [account]}) == []
