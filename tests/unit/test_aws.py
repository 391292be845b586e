"""The computed AWS side: names, policies, merges; and the inputs that are refused."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import (
    bucket_settings,
    checks,
    iam,
    names,
    options,
    ownership,
    policies,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner

ACCOUNT, OTHER = "123456789012", "210987654321"
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/1"


def test_names():
    assert names.provider_arn("https://h/id/A", ACCOUNT, "aws-cn") == f"arn:aws-cn:iam::{ACCOUNT}:oidc-provider/h/id/A"
    assert names.role_path_of(f"arn:aws:iam::{ACCOUNT}:role/r") == "/"
    assert names.role_path_of(f"arn:aws:iam::{ACCOUNT}:role/a/b/r") == "/a/b/"
    assert names.role_name_of(f"arn:aws:iam::{ACCOUNT}:role/a/b/r") == "r"


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("r" * 64, True),
        ("r" * 65, False),
        ("a+=,.@-_b", True),
        ("a b", False),
        ("a/b", False),
        ("", False),
        (f"arn:aws:iam::{ACCOUNT}:role/{'p' * 510}/r", True),
        (f"arn:aws:iam::{ACCOUNT}:role/{'p' * 511}/r", False),
        (f"arn:aws:iam::{ACCOUNT}:role/{'r' * 65}", False),
        (f"arn:aws:iam::{ACCOUNT}:user/r", False),
    ],
)
def test_the_name_of_a_role(name, right):
    assert (names.role_name_error(name) is None) is right


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


POINT = f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint/point"
OTHER_KEY = KEY.replace("key/1", "key/2")
# Several grants on one bucket, and buckets whose names a Sid can't tell apart.
GRANTS = {
    "different folders": [{"bucket": "a-b", "prefixes": ["x"]}, {"bucket": "a-b", "prefixes": ["y/z"]}],
    "a folder within another": [{"bucket": "a-b", "prefixes": ["x"]}, {"bucket": "a-b", "prefixes": ["x/y", "xy"]}],
    "a folder and the whole": [{"bucket": "a-b", "prefixes": ["x"]}, {"bucket": "a-b"}],
    "read and write": [{"bucket": "a-b", "prefixes": ["x"]}, {"bucket": "a-b", "prefixes": ["y"], "write": True}],
    "head": [{"bucket": "a-b", "prefixes": ["x"]}, {"bucket": "a-b", "prefixes": ["y"], "head_bucket": True}],
    "keys": [
        {"bucket": "a-b", "prefixes": ["x"], "kms_key_arn": KEY},
        {"bucket": "a-b", "prefixes": ["y"], "kms_key_arn": OTHER_KEY, "write": True},
        {"bucket": "a-b", "kms_key_arn": "aws/s3"},
    ],
    "one key": [
        {"bucket": "a-b", "prefixes": ["x"], "kms_key_arn": KEY},
        {"bucket": "a-b", "prefixes": ["y"], "kms_key_arn": KEY, "write": True},
    ],
    "names": [
        {"bucket": "a-b", "prefixes": ["x"]},
        {"bucket": "a.b"},
        {"bucket": "a-b2"},
        {"bucket": "a-b", "write": True},
    ],
    "an access point too": [
        {"bucket": "a-b", "prefixes": ["x"]},
        {"bucket": "a-b", "access_point": POINT, "write": True},
    ],
    "accounts": [{"bucket": "a-b"}, {"bucket": "a-b", "account_id": "210987654321", "write": True}],
}


@pytest.mark.parametrize("name", GRANTS)
def test_several_grants_allow_what_each_of_them_would(name):
    """And no more: against what their own policies allow, for every request of each with and without write."""
    access = GRANTS[name]
    together = policies.permissions(access, ACCOUNT, "aws")
    sids = [item["Sid"] for item in together["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)
    alone = [policies.permissions([entry], ACCOUNT, "aws") for entry in access]
    more = [{"bucket": "a-b", "prefixes": [prefix], "head_bucket": True} for prefix in ("x", "y", "z", "x/y", "xy")]
    for entry in [*access, *more]:
        for operation, request in policies.requests({**entry, "write": True}, ACCOUNT, "aws"):
            assert iam.decide([together], request).allowed == iam.decide(alone, request).allowed, (operation, request)
    assert policies.permissions(access[::-1], ACCOUNT, "aws") == together


def test_the_grants_on_one_bucket_are_one():
    found = policies.permissions(GRANTS["read and write"], ACCOUNT, "aws")["Statement"]
    assert [item["Sid"] for item in found] == ["ListAB", "ReadAB", "WriteAB"]
    assert found[0]["Condition"]["StringLike"] == {"s3:prefix": ["x/*", "y/*"]}
    assert found[1]["Resource"] == ["arn:aws:s3:::a-b/x/*", "arn:aws:s3:::a-b/y/*"]
    assert found[2]["Resource"] == "arn:aws:s3:::a-b/y/*"


def test_a_bucket_of_an_access_point_is_used_through_it_alone():
    entry = {"bucket": "b-1", "prefixes": ["x"], "access_point": POINT, "account_id": "210987654321"}
    document = policies.permissions([entry], ACCOUNT, "aws")
    listing, reading = document["Statement"]
    assert listing["Resource"] == ["arn:aws:s3:::b-1", POINT]
    assert reading["Resource"] == ["arn:aws:s3:::b-1/x/*", f"{POINT}/object/x/*"]
    assert reading["Condition"]["ArnEquals"]["s3:DataAccessPointArn"] == POINT
    for name, request in policies.requests(entry, ACCOUNT, "aws"):
        assert iam.decide([document], request).allowed, name
    plain = {key: value for key, value in entry.items() if key != "access_point"}
    for name, request in policies.requests(plain, ACCOUNT, "aws"):
        assert not iam.decide([document], request).allowed, name


def test_the_managed_key_needs_no_right_in_its_account():
    entry = {"bucket": "b", "kms_key_arn": "aws/s3", "write": True}
    assert policies.permissions([entry], ACCOUNT, "aws") == policies.permissions(
        [{"bucket": "b", "write": True}], ACCOUNT, "aws"
    )
    assert all(request.action.startswith("s3:") for _, request in policies.requests(entry, ACCOUNT, "aws"))


def test_what_is_no_key_can_not_be_evaluated():
    """The report comes before what checks the variables."""
    with pytest.raises(iam.PolicyError, match="'alias/x' is not the ARN of a key"):
        policies.requests({"bucket": "b", "kms_key_arn": "alias/x"}, ACCOUNT, "aws")


def test_the_encryption_with_the_managed_key():
    wanted = bucket_settings.encryption("aws/s3")
    (rule,) = wanted["Rules"]
    assert rule == {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    alias = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": f"arn:aws:kms:eu-central-1:{ACCOUNT}:alias/aws/s3"}
    for live, same in (({"SSEAlgorithm": "aws:kms"}, True), (alias, True), ({"SSEAlgorithm": "AES256"}, False)):
        rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": live, "BucketKeyEnabled": True}]}
        assert bucket_settings.same_encryption(rules, wanted) is same
    off = {"Rules": [{"ApplyServerSideEncryptionByDefault": alias, "BucketKeyEnabled": False}]}
    assert not bucket_settings.same_encryption(off, wanted)
    own = {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {**alias, "KMSMasterKeyID": KEY}, "BucketKeyEnabled": True}]
    }
    assert not bucket_settings.same_encryption(own, wanted)


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
    "role_arns": [],
    "eks_cluster_name": "staging",
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
        *(
            ({"oidc_issuer": issuer}, "irsa_oidc_issuer")
            for issuer in (
                "https://OIDC.example.com/id/A",
                "HTTPS://h",
                "https://h:8443",
                "https://h:443/id",
                "https://h?x=1",
                "https://h/id?x",
                "https://h#x",
                "https://me@h",
                "https://h//id",
                "https://h/id/",
                "https://-h",
                "https://h./id",
                "https://h /id",
                f"https://h/{'a' * 246}",
                "https:///id",
                "https://",
            )
        ),
        ({"pod_identity": True, "cluster_account_id": "210987654321"}, "association takes no role of another"),
        ({"tags": {"managed-by": "me"}}, "irsa_tags.managed-by"),
        ({"tags": {"modelyard/cluster/x": "1"}}, "choose another"),
        (
            {"buckets": {"models": {"noncurrent_days": 0}}},
            "irsa_buckets.models.noncurrent_days is 0: must be 1 or more",
        ),
        ({"buckets": {"models": {"multipart_days": 2**31}}}, "must be 1 or more, up to 2147483647"),
        ({"buckets": {"Models": {}}}, "irsa_buckets.Models"),
        ({"buckets": {"models-an": {}}}, f"as NAME-{ACCOUNT}-eu-central-1-an"),
        ({"buckets": {f"models-{ACCOUNT}-eu-west-1-an": {}}}, f"as NAME-{ACCOUNT}-eu-central-1-an"),
        ({"buckets": {"models": {"account_id": "1"}}}, "irsa_buckets.models.account_id is '1': must be the 12 digits"),
        ({"buckets": {"models": {"kms_key_arn": KEY.replace("central", "west")}}}, "must be a key in eu-central-1"),
        ({"buckets": {"models": {"kms_key_arn": "alias/aws/s3"}}}, "or aws/s3, AWS's own key"),
        ({"tags": {"Managed-By": "me"}}, "irsa_tags.Managed-By"),
        ({"tags": {"Modelyard/x": "1"}}, "choose another"),
        ({"tags": {"AWS:x": "1"}}, "choose another"),
        ({"tags": {"a#b": "1"}}, "letters, digits, spaces and _.:/=+-@"),
        ({"tags": {"": "1"}}, "a tag's key has 1 to 128"),
        ({"tags": {"k" * 129: "1"}}, "a tag's key has 1 to 128"),
        ({"tags": {"Team": "1", "team": "2"}}, "irsa_tags.team is '2': differs from another key in case alone"),
        ({"tags": {"team": "a&b"}}, "a tag's value has up to 256"),
        ({"tags": {"team": "v" * 257}}, "a tag's value has up to 256"),
        ({"tags": {"team": "aws:x"}}, "does not begin with aws:"),
        ({"tags": {"team": None}}, "must be a text"),
        ({"tags": {"team": True}}, "must be a text"),
        ({"tags": {f"t{number}": "1" for number in range(49)}}, "irsa_tags is 49: AWS takes 50 tags"),
    ],
)
def test_inputs_that_are_refused(given, message):
    assert message in "\n".join(checks.check({**OPTIONS, **given}))


@pytest.mark.parametrize(
    "given",
    [
        {"oidc_issuer": "https://oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF"},
        {"oidc_issuer": "https://h"},
        {"oidc_issuer": f"https://h/{'a' * 245}"},
        {"tags": {"Cost Center": "a/b = c+d@e", "leer": "", "größe": "übel", "number": 7}},
        {"tags": {f"t{number}": "1" for number in range(48)}},
        {"buckets": {f"models-{ACCOUNT}-eu-central-1-an": {}, "a.-b": {}}},
        {"buckets": {"models": {"kms_key_arn": "aws/s3", "account_id": "210987654321"}}},
        {"buckets": {"models": {"kms_key_arn": KEY.replace("key/1", "key/mrk-1")}}},
    ],
)
def test_inputs_that_are_right(given):
    assert checks.check({**OPTIONS, **given}) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("192.168.5.4", "must not look like an IP address"),
        ("xn--models", "must not begin with"),
        ("sthree-models", "must not begin with"),
        ("amzn-s3-demo-models", "must not begin with"),
        ("models--usw2-az1--x-s3", "is a directory bucket"),
        ("models-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias", "is the alias of an access point"),
        ("models--ol-s3", "is the alias of an Object Lambda access point"),
        ("models.mrap", "is the alias of a multi-region access point"),
        ("models--table-s3", "is a table bucket"),
        ("mo..dels", "must be the name of a bucket"),
        ("-models", "must be the name of a bucket"),
        ("models-", "must be the name of a bucket"),
        (".models", "must be the name of a bucket"),
        ("mo_dels", "must be the name of a bucket"),
        ("mo", "must be the name of a bucket"),
        ("m" * 64, "must be the name of a bucket"),
        ("models\n", "must be the name of a bucket"),
        (f"arn:aws:s3:eu-central-1:{ACCOUNT}:accesspoint/x", "must be the name of a bucket"),
    ],
)
def test_a_bucket_that_s3_does_not_have_is_neither_made_nor_used(name, message):
    (said,) = checks.check({**OPTIONS, "buckets": {name: {}}})
    assert message in said
    (said,) = checks.check({**OPTIONS, "service_accounts": [carrier({"bucket": name})]})
    assert said.startswith("triton_access[0].bucket is ")
    assert message in said


@pytest.mark.parametrize("name", ["1.2.3.4.5", "1.2.3", "a.b", "models-s3", "s3alias", "x--s3", "models-an", "m" * 63])
def test_a_bucket_that_there_may_be_is_used(name):
    assert checks.check({**OPTIONS, "service_accounts": [carrier({"bucket": name})]}) == []


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
        ({"bucket": "bbb", "account_id": "12345"}, "must be the 12 digits of the bucket's account"),
        ({"bucket": "bbb", "account_id": "210987654321", "kms_key_arn": "aws/s3"}, "encrypt it with a key of its own"),
        ({"bucket": "bbb", "access_point": "point"}, "must be the ARN of an access point"),
        ({"bucket": "bbb", "access_point": POINT.replace("aws:s3", "aws-cn:s3")}, "must be the ARN of an access point"),
        ({"bucket": "bbb", "access_point": f"arn:aws:s3::{ACCOUNT}:accesspoint/m.mrap"}, "of one region"),
        ({"bucket": "bbb", "access_point": f"{POINT}-s3alias"}, "must be the ARN of an access point"),
        (
            {"bucket": "bbb", "access_point": POINT, "kms_key_arn": KEY.replace("central", "west")},
            "must be a key in eu-central-1, the region of access_point",
        ),
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


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"account_id": ACCOUNT}, "must be 210987654321, the account of irsa_buckets.models"),
        (
            {"access_point": POINT.replace("central", "west")},
            "must be in eu-central-1, the region of irsa_buckets.models",
        ),
    ],
)
def test_access_that_contradicts_a_bucket_of_ours(entry, message):
    given = {"buckets": {"models": {"account_id": "210987654321"}}}
    (said,) = checks.check({**OPTIONS, **given, "service_accounts": [carrier({**MODELS, **entry})]})
    assert message in said


def test_the_account_of_a_bucket():
    """The entry's own word, that of the bucket's own settings, else the role's."""
    guest = f"arn:aws:iam::{OTHER}:role/r"
    entries = [{"bucket": "a"}, {"bucket": "b"}, {"bucket": "c"}, {"bucket": "c", "account_id": "111122223333"}]
    given = {**OPTIONS, "buckets": {"a": None, "b": {"account_id": "333322221111"}}}
    found = options.with_accounts({**given, "service_accounts": [carrier(*entries, role=guest)]})
    (item,) = found["service_accounts"]
    assert [entry["account_id"] for entry in item["access"]] == [ACCOUNT, "333322221111", OTHER, "111122223333"]
    assert options.with_accounts(found) == found


def test_roles_that_iam_takes_for_one_are_refused():
    arns = [f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("a/Reader", "b/reader", "other")]
    (said,) = checks.check({**OPTIONS, "role_arns": arns})
    assert f"{arns[1]} are one role to IAM" in said
    guest = arns[0].replace(ACCOUNT, OTHER)
    assert checks.check({**OPTIONS, "role_arns": [arns[1], arns[2], guest]}) == []


@pytest.mark.parametrize(
    ("name", "right"), [("prod-1_a", True), ("prod.eu", False), ("-prod", False), ("p" * 101, False)]
)
def test_the_name_of_a_cluster_in_eks(name, right):
    given = {**OPTIONS, "eks_cluster_name": name, "service_accounts": [carrier(MODELS)]}
    assert (checks.check(given) == []) is right
    assert checks.check({**given, "oidc_issuer": "https://h"}) == []
    assert (checks.check({**given, "oidc_issuer": "https://h", "pod_identity": True}) == []) is right


@pytest.mark.parametrize(
    ("alias", "right"),
    [
        ("point-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias", True),
        ("poi-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias", True),  # where there was no room for all of it
        ("else-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias", False),
        ("-s3alias", False),
    ],
)
def test_what_is_read_through_an_access_point(alias, right):
    entry = {"bucket": "models", "prefixes": ["a"], "access_point": POINT}
    said = checks.check({**OPTIONS, "service_accounts": [carrier(entry, reads=[f"s3://{alias}/a"])]})
    assert (said == []) is right


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
