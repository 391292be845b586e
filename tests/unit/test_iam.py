"""The evaluator of IAM policies: AWS's rules one by one, each with what would pass if the rule were left out."""

import dataclasses

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam

PROVIDER = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
HOST = PROVIDER.partition("/")[2]


def policy(*statements, version="2012-10-17"):
    return {"Version": version, "Statement": list(statements)}


def allow(action="s3:GetObject", resource="arn:aws:s3:::b/*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action="s3:GetObject", resource="arn:aws:s3:::b/*", **more):
    return {**allow(action, resource, **more), "Effect": "Deny"}


def holds(condition, version="2012-10-17", **context):
    """Evaluate a condition alone; a context key is written with __ for its colon."""
    context = {key.replace("__", ":"): value for key, value in context.items()}
    request = iam.Request("s3:GetObject", "arn:aws:s3:::b/k", context)
    return iam.decide([policy(allow(Condition=condition), version=version)], request).allowed


def asks(action="s3:GetObject", resource="arn:aws:s3:::b/k", **context):
    return iam.Request(action, resource, context)


def test_nothing_is_allowed_by_default():
    decision = iam.decide([policy()], asks())
    assert (decision.allowed, decision.denied) == (False, False)
    assert decision.reason == "no statement allows s3:GetObject on arn:aws:s3:::b/k"


def test_a_denial_wins_wherever_it_stands():
    for documents in ([policy(allow(), deny(Sid="No"))], [policy(deny(Sid="No")), policy(allow())]):
        decision = iam.decide(documents, asks())
        assert (decision.allowed, decision.denied) == (False, True)
        assert "statement No" in decision.reason


def test_one_allowing_document_is_enough():
    assert iam.decide([policy(), policy(allow())], asks()).allowed


def test_a_boundary_limits_and_grants_nothing():
    everything = policy(allow("*", "*"))
    assert iam.decide([everything], asks(), boundary=policy(allow())).allowed
    assert not iam.decide([everything], asks("s3:PutObject"), boundary=policy(allow())).allowed
    assert not iam.decide([policy()], asks(), boundary=everything).allowed
    assert not iam.decide([everything], asks(), boundary=policy(allow("*", "*"), deny())).allowed


@pytest.mark.parametrize(
    ("pattern", "action", "right"),
    [
        ("s3:getobject", "s3:GetObject", True),
        ("s3:Get*", "s3:GetObject", True),
        ("s3:GetObjec?", "s3:GetObject", True),
        ("s3:GetObject", "s3:GetObjectVersion", False),
        ("*", "sts:AssumeRole", True),
        ("s3:*", "s3express:GetObject", False),
    ],
)
def test_actions(pattern, action, right):
    assert iam.decide([policy(allow(pattern, "*"))], asks(action)).allowed is right


@pytest.mark.parametrize(
    ("pattern", "resource", "right"),
    [
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/a/b", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b", False),
        ("arn:aws:s3:::B/*", "arn:aws:s3:::b/k", False),
        ("arn:aws:s3:::b", "arn:aws:s3:::bb", False),
        ("arn:aws:s3:::b?", "arn:aws:s3:::bb", True),
        ("arn:*:s3:::b", "arn:aws-cn:s3:::b", True),
        # A wildcard does not reach over a colon of the ARN.
        ("arn:*:::b", "arn:aws:s3:::b", "error"),
        ("arn:aws:iam::*:role/r", "arn:aws:iam::1:x:role/r", False),
        ("*", "anything", True),
        ("b/*", "arn:aws:s3:::b/k", "error"),
    ],
)
def test_resources(pattern, resource, right):
    document = policy(allow("*", pattern))
    if right == "error":
        with pytest.raises(iam.PolicyError, match="is not an ARN"):
            iam.decide([document], asks(resource=resource))
    else:
        assert iam.decide([document], asks(resource=resource)).allowed is right


def test_not_action_and_not_resource():
    document = policy({"Effect": "Allow", "NotAction": "s3:Put*", "NotResource": "arn:aws:s3:::secret/*"})
    assert iam.decide([document], asks()).allowed
    assert not iam.decide([document], asks("s3:PutObject")).allowed
    assert not iam.decide([document], asks(resource="arn:aws:s3:::secret/k")).allowed


@pytest.mark.parametrize(
    ("condition", "context", "right"),
    [
        ({"StringEquals": {"k": "a"}}, {"k": "a"}, True),
        ({"StringEquals": {"k": "a"}}, {"K": "a"}, True),  # keys' case does not matter
        ({"StringEquals": {"k": "a"}}, {"k": "A"}, False),
        ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, True),
        ({"StringEquals": {"k": "a*"}}, {"k": "ab"}, False),  # no wildcards
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringEquals": {"k": "a"}, "StringLike": {"l": "b"}}, {"k": "a"}, False),  # all operators
        ({"StringEquals": {"k": "a", "l": "b"}}, {"k": "a", "l": "c"}, False),  # all keys
        ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
        ({"StringEqualsIfExists": {"k": "a"}}, {"k": "b"}, False),
        ({"StringNotEquals": {"k": "a"}}, {}, True),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "c"}, True),
        ({"StringEqualsIgnoreCase": {"k": "a"}}, {"k": "A"}, True),
        ({"StringNotEqualsIgnoreCase": {"k": "a"}}, {"k": "A"}, False),
        ({"StringLike": {"k": "a*c?"}}, {"k": "abbcd"}, True),
        ({"StringLike": {"k": "a*"}}, {"k": "ba"}, False),
        ({"StringLike": {"k": "a"}}, {"k": "a\n"}, False),
        ({"StringNotLike": {"k": "a*"}}, {"k": "ab"}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "true"}}, {"k": "a"}, False),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Null": {"k": False}}, {"k": ""}, True),
        ({"Bool": {"k": "false"}}, {"k": "false"}, True),
        ({"Bool": {"k": True}}, {"k": "false"}, False),
        ({"Bool": {"k": "false"}}, {}, False),
        ({"BoolIfExists": {"k": "false"}}, {}, True),
        ({"NumericLessThan": {"k": "10"}}, {"k": "9.5"}, True),
        ({"NumericLessThan": {"k": "10"}}, {"k": "10"}, False),
        ({"NumericGreaterThanEquals": {"k": 10}}, {"k": "10"}, True),
        ({"NumericNotEquals": {"k": "10"}}, {"k": "10.0"}, False),
        ({"DateLessThan": {"k": "2026-11-26T00:00:00Z"}}, {"k": "2026-11-25T23:59:59Z"}, True),
        ({"DateGreaterThan": {"k": "0"}}, {"k": "2026-11-25T23:59:59Z"}, True),
        ({"IpAddress": {"k": "10.0.0.0/8"}}, {"k": "10.9.8.7"}, True),
        ({"IpAddress": {"k": "10.0.0.0/8"}}, {"k": "11.0.0.1"}, False),
        ({"NotIpAddress": {"k": ["10.0.0.0/8", "11.0.0.0/8"]}}, {"k": "11.0.0.1"}, False),
        ({"BinaryEquals": {"k": "AAE="}}, {"k": "AAE="}, True),
        ({"ArnLike": {"k": "arn:aws:eks:*:1:cluster/*"}}, {"k": "arn:aws:eks:eu-west-1:1:cluster/c"}, True),
        ({"ArnEquals": {"k": "arn:aws:eks:*:1:cluster/*"}}, {"k": "arn:aws:eks:eu:2:1:cluster/c"}, False),
        ({"ArnNotLike": {"k": "arn:aws:eks:*:1:cluster/*"}}, {"k": "arn:aws:eks:eu-west-1:2:cluster/c"}, True),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, {"k": ["x", "b"]}, True),
        ({"ForAnyValue:StringEquals": {"k": "a"}}, {"k": ["x", "y"]}, False),
        ({"ForAnyValue:StringEquals": {"k": "a"}}, {}, False),
        ({"ForAnyValue:StringNotEquals": {"k": "a"}}, {}, False),
        ({"ForAnyValue:StringNotEquals": {"k": "a"}}, {"k": ["a", "b"]}, True),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "x"]}, False),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["b", "a"]}, True),
        ({"ForAllValues:StringEquals": {"k": "a"}}, {}, True),  # AWS's own trap
        ({"ForAllValues:StringNotEquals": {"k": "a"}}, {"k": ["a", "b"]}, False),
    ],
)
def test_conditions(condition, context, right):
    assert holds(condition, **context) is right


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"StringMatches": {"k": "a"}}, "unknown condition operator 'StringMatches'"),
        ({"NullIfExists": {"k": "true"}}, "unknown condition operator"),
        ({"ForSomeValues:StringEquals": {"k": "a"}}, "unknown condition operator"),
        # It does not hide behind one that fails.
        ({"StringEquals": {"absent": "a"}, "StringMatches": {"k": "a"}}, "unknown condition operator"),
        ({"StringEquals": {"many": "a"}}, "many has 2 values"),
        ({"NumericEquals": {"k": "x"}}, "is not a number"),
        ({"DateEquals": {"k": "x"}}, "is not a date"),
        ({"Bool": {"k": "yes"}}, "is not true or false"),
        ({"IpAddress": {"k": "here"}}, "does not appear to be an IPv4"),
        ({"StringEquals": "k"}, "must be an object"),
        ({"StringEquals": {"k": {"a": "b"}}}, "must be a text"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(condition, message):
    with pytest.raises(iam.PolicyError, match=message):
        holds(condition, k="a", many=["a", "b"])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"Version": "2020-01-01", "Statement": []}, "unknown policy version"),
        ({"Statement": [], "Statements": []}, "unknown element of a policy"),
        ({"Version": "2012-10-17"}, "Statement must be"),
        (policy(allow(Conditions={})), "unknown element of a statement: Conditions"),
        (policy({**allow(), "Effect": "allow"}), "must be Allow or Deny"),
        (policy(allow(NotAction="s3:*")), "Action and NotAction"),
        (policy({"Effect": "Allow", "Resource": "*"}), "without Action"),
        (policy({"Effect": "Allow", "Action": "s3:*"}), "without Resource"),
        (policy(allow("s3")), "is not SERVICE:ACTION"),
        (policy(allow(resource=[])), "must be a text or a list"),
        (policy(allow(Principal="*")), "has no Principal"),
        ([], "JSON object"),
    ],
)
def test_documents_that_are_none(document, message):
    with pytest.raises(iam.PolicyError, match=message):
        iam.decide([document], asks())


def test_policy_variables():
    document = policy(allow(resource="arn:aws:s3:::b/${aws:username}/*"))
    mine = iam.Request("s3:GetObject", "arn:aws:s3:::b/ann/k", {"aws:username": "ann"})
    assert iam.decide([document], mine).allowed
    assert not iam.decide([document], dataclasses.replace(mine, resource="arn:aws:s3:::b/bob/k")).allowed
    # A wildcard in a value is a letter like any other; without a value, it matches nothing.
    assert not iam.decide([document], dataclasses.replace(mine, context={"aws:username": "*"})).allowed
    assert not iam.decide([document], dataclasses.replace(mine, context={})).allowed
    assert holds({"StringNotEquals": {"k": "${aws:username}"}}, k="a")
    assert not holds({"StringEquals": {"k": "${aws:username}"}}, k="a")
    # Only this version of the language has them.
    old = policy(allow(resource="arn:aws:s3:::b/${aws:username}/*"), version="2008-10-17")
    assert not iam.decide([old], mine).allowed


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        ("${aws:username}", "ann", True),
        ("a${*}", "a*", True),
        ("a${*}", "ab", False),
        ("${team, 'none'}", "none", True),
        ("a${$}", "a$", True),
    ],
)
def test_policy_variables_in_conditions(text, value, right):
    assert holds({"StringLike": {"k": text}}, k=value, aws__username="ann") is right


def test_a_broken_policy_variable_is_an_error():
    for text in ("${aws:username", "${a b}"):
        with pytest.raises(iam.PolicyError, match="policy variable"):
            holds({"StringEquals": {"k": text}}, k="a")


# --- Trust ------------------------------------------------------------------------------------------


def trust(**more):
    return policy(
        {
            "Effect": "Allow",
            "Principal": {"Federated": PROVIDER},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {f"{HOST}:sub": "system:serviceaccount:ml:a", f"{HOST}:aud": "sts.amazonaws.com"}
            },
            **more,
        }
    )


CLAIMS = {"sub": "system:serviceaccount:ml:a", "aud": ["sts.amazonaws.com"], "iss": f"https://{HOST}"}


def test_a_token_of_the_account_is_trusted():
    assert iam.decide([trust()], iam.web_identity(PROVIDER, CLAIMS)).allowed


@pytest.mark.parametrize(
    ("provider", "claims"),
    [
        (PROVIDER, {"sub": "system:serviceaccount:ml:b"}),
        (PROVIDER, {"sub": "system:serviceaccount:other:a"}),
        (PROVIDER, {"sub": "system:serviceaccount:ml:a:b"}),
        (PROVIDER, {"sub": "SYSTEM:serviceaccount:ml:a"}),
        (PROVIDER, {"aud": ["https://kubernetes.default.svc"]}),
        (PROVIDER, {"aud": None}),
        (PROVIDER.replace("ABC", "ABD"), {}),
        (PROVIDER.replace("123456789012", "999999999999"), {}),
    ],
)
def test_other_tokens_are_not(provider, claims):
    assert not iam.decide([trust()], iam.web_identity(provider, {**CLAIMS, **claims})).allowed


def test_a_token_with_two_audiences_is_not_compared_as_one_value():
    with pytest.raises(iam.PolicyError, match="has 2 values"):
        iam.decide([trust()], iam.web_identity(PROVIDER, {**CLAIMS, "aud": ["sts.amazonaws.com", "x"]}))


@pytest.mark.parametrize(
    ("principal", "right"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"Federated": [PROVIDER, "x"]}, True),
        ({"Service": PROVIDER}, False),
        ({"AWS": "123456789012"}, False),
    ],
)
def test_principals(principal, right):
    assert iam.decide([trust(Principal=principal)], iam.web_identity(PROVIDER, CLAIMS)).allowed is right


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("123456789012", True),
        ("arn:aws:iam::123456789012:root", True),
        ("arn:aws:iam::123456789012:role/r", True),
        ("arn:aws:iam::123456789012:role/s", False),
        ("999999999999", False),
    ],
)
def test_principals_of_an_account(name, right):
    request = iam.Request("sts:AssumeRole", principal=("AWS", "arn:aws:iam::123456789012:role/r"))
    statement = {"Effect": "Allow", "Principal": {"AWS": name}, "Action": "sts:AssumeRole"}
    assert iam.decide([policy(statement)], request).allowed is right


def test_not_principal_denies_all_but_those():
    request = iam.web_identity(PROVIDER, CLAIMS)
    block = {"Effect": "Deny", "NotPrincipal": {"Federated": PROVIDER}, "Action": "sts:*"}
    assert iam.decide([policy(*trust()["Statement"], block)], request).allowed
    block["NotPrincipal"] = {"Federated": "other"}
    assert iam.decide([policy(*trust()["Statement"], block)], request).denied
    with pytest.raises(iam.PolicyError, match="NotPrincipal with Effect Allow"):
        iam.decide([policy({**block, "Effect": "Allow"})], request)


def test_a_trust_policy_needs_a_principal_of_a_known_kind():
    request = iam.web_identity(PROVIDER, CLAIMS)
    for principal, message in (({"Group": "x"}, "unknown kind"), ("x", "must be"), ({}, "must be")):
        with pytest.raises(iam.PolicyError, match=message):
            iam.decide([trust(Principal=principal)], request)
    without = policy({"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity"})
    with pytest.raises(iam.PolicyError, match="needs a Principal"):
        iam.decide([without], request)


def test_s3_operations_ask_for_their_action():
    head = iam.s3("HeadBucket", "b", prefix="p")
    assert (head.action, head.resource, head.values("s3:prefix")) == ("s3:ListBucket", "arn:aws:s3:::b", None)
    listing = iam.s3("ListObjectsV2", "b", partition="aws-cn", prefix="p", account="1")
    assert (listing.resource, listing.values("s3:prefix")) == ("arn:aws-cn:s3:::b", ["p"])
    assert iam.s3("UploadPart", "b", "k").action == "s3:PutObject"
    with pytest.raises(iam.PolicyError, match="unknown S3 operation"):
        iam.s3("GetBucket", "b")


# --- What is not known ------------------------------------------------------------------------------


def about(**keys):
    """A request of which the keys given are known, `gone` is absent, and no other."""
    context = {key.replace("__", ":"): value for key, value in keys.items()}
    return iam.Request("s3:GetObject", "arn:aws:s3:::b/k", context, absent=("gone",))


def verdict(*statements, request=None, boundary=None):
    """True, False, or the keys that decide."""
    decision = iam.decide([policy(*statements)], request or about(known="a"), boundary)
    assert not (decision.unknown and (decision.allowed or decision.denied))
    return decision.unknown or decision.allowed


IF = {"StringEquals": {"any": "x"}}
NO = {"StringEquals": {"known": "b"}}


KNOWN = {"known": "a", "number": "1", "maybe": iam.Some(("a",), absent=True), "maybek": iam.Some(("k",), absent=True)}


@pytest.mark.parametrize(
    ("statements", "right"),
    [
        ([allow(Condition=IF)], ("any",)),
        ([allow(), deny(Condition=IF)], ("any",)),
        # What is certain goes before.
        ([allow(Condition=IF), allow()], True),
        ([allow(Condition=IF), deny()], False),
        ([allow(), deny(Condition=IF), deny()], False),
        ([deny(Condition=IF)], False),
        # A statement that is not about the request asks nothing.
        ([allow(), deny("s3:PutObject", Condition=IF)], True),
        ([allow(), deny(resource="arn:aws:s3:::c/*", Condition=IF)], True),
        ([allow(), deny(Condition={**IF, "StringLike": {"known": "b*"}})], True),
        ([allow(Condition={"StringEquals": {"any": "x", "known": "b"}})], False),
        ([allow(Condition={"StringEquals": {"any": "x", "known": "a"}})], ("any",)),
        # Every key that decides is told, and no other.
        ([allow(Condition=IF), deny(Condition={"Bool": {"other": "true"}})], ("any", "other")),
        ([allow(), allow(Condition=IF), deny(Condition={"Bool": {"other": "true"}})], ("other",)),
        ([allow(Condition={"StringEquals": {"any": "x", "two": "y"}})], ("any", "two")),
        ([{"Effect": "Allow", "NotAction": "s3:Put*", "NotResource": "arn:aws:s3:::c", "Condition": IF}], ("any",)),
        # Variables.
        ([allow(resource="arn:aws:s3:::b/${any}")], ("any",)),
        ([allow(resource="arn:aws:s3:::c/${any}")], False),
        ([allow(resource="arn:aws:s3:::b/${gone}")], False),
        ([allow(resource="arn:aws:s3:::b/${any, 'k'}")], ("any",)),
        ([allow(resource="arn:aws:s3:::c/${any, 'k'}")], False),
        ([allow(resource=["arn:aws:s3:::b/${any}", "arn:aws:s3:::b/*"])], True),
        ([allow("*", "*"), {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::b/${any}"}], ("any",)),
        ([allow("*", "*"), {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::c/${any}"}], ("any",)),
        ([allow("*", "*"), {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::c/${any, 'x'}"}], False),
        ([allow("*", "*"), {"Effect": "Deny", "Action": "*", "NotResource": ["arn:aws:s3:::c/${any}", "*"]}], True),
        ([allow("*", "*"), {"Effect": "Deny", "Action": "*", "NotResource": "arn:aws:s3:::c/${gone}"}], ("gone",)),
        ([allow(resource=["arn:aws:s3:::b/${gone}", "*"])], True),
        ([allow(Condition={"StringEquals": {"known": "${any}"}})], ("any",)),
        ([allow(Condition={"StringEquals": {"known": ["${any}", "a"]}})], True),
        ([allow(Condition={"StringLike": {"known": "b${any}"}})], False),
        ([allow(Condition={"StringNotLike": {"known": "b${any}"}})], True),
        ([allow(Condition={"StringNotLike": {"known": "${any}"}})], ("any",)),
        ([allow(Condition={"StringNotLike": {"known": "b${any, ''}"}})], True),
        ([allow(Condition={"NumericLessThan": {"number": "${any}"}})], ("any",)),
        # The variable is "a", or there is none.
        ([allow(Condition={"StringEquals": {"known": "${maybe}"}})], ("maybe",)),
        ([allow(Condition={"StringEquals": {"known": "${maybe, 'a'}"}})], True),
        ([allow(Condition={"StringEquals": {"number": "${maybe, '1'}"}})], ("maybe",)),
        ([allow(resource="arn:aws:s3:::b/${maybek}")], ("maybek",)),
    ],
)
def test_a_key_that_is_not_known_decides(statements, right):
    assert verdict(*statements, request=about(**KNOWN)) == right


@pytest.mark.parametrize(
    ("statements", "right"),
    [
        ([allow(Condition={"Null": {"any": "true"}}), allow(Condition={"Null": {"any": "false"}})], True),
        ([allow(Condition={"Null": {"any": "true"}}), allow(Condition={"StringLike": {"any": "x*"}})], ("any",)),
        ([allow(), deny(Condition={"Null": {"any": "true"}, "StringLike": {"any": "*"}})], True),
        ([allow(), deny(Condition={"Null": {"any": "true"}}), deny(Condition={"StringLike": {"any": "*"}})], False),
        ([allow(Condition={"StringEquals": {"two": "7"}}), allow(Condition={"StringEquals": {"two": "8"}})], True),
        ([allow(Condition={"StringEquals": {"two": "7"}}), deny(Condition={"StringEquals": {"two": "8"}})], ("two",)),
        # One of two keys does not matter.
        ([allow(Condition={"Null": {"any": "true"}}), allow(Condition={"Null": {"any": "false"}}), deny(Condition=IF | {"Null": {"b": "true"}})], ("any", "b")),
    ],
)  # fmt: skip
def test_a_key_that_changes_nothing_does_not_decide(statements, right):
    assert verdict(*statements, request=about(two=iam.Some(("7", "8")))) == right


def test_a_boundary_with_a_key_that_is_not_known():
    everything = policy(allow("*", "*"))
    assert verdict(allow(), boundary=policy(allow("*", "*", Condition=IF))) == ("any",)
    assert verdict(allow(Condition=NO), boundary=policy(allow("*", "*", Condition=IF))) is False
    assert verdict(allow(Condition=IF), boundary=policy(allow(Condition=NO))) is False
    assert verdict(allow(Condition=IF), boundary=policy(allow("*", "*"), deny(Condition=IF))) == ("any",)
    assert verdict(allow(), boundary=policy(*everything["Statement"], allow(Condition=IF))) is True


@pytest.mark.parametrize(
    ("operator", "value", "right"),
    [
        # A key of which nothing is known; of which the form is, and that it is there; that is there, and is one of two.
        ("StringEquals", "AROA:x", (None, None, False)),
        ("StringEquals", "other", (None, False, False)),
        ("StringNotEquals", "other", (None, True, True)),
        ("StringEqualsIgnoreCase", "aroa:X", (None, None, False)),
        ("StringLike", "*", (None, True, True)),
        ("StringLike", "AROA:*", (None, True, False)),
        ("StringLike", "AROA:?*", (None, None, False)),
        ("StringLike", "*:x", (None, None, False)),
        ("StringNotLike", "AROA*", (None, False, True)),
        ("StringNotLike", "B*", (None, True, True)),
        ("StringLikeIfExists", "*", (True, True, True)),
        ("StringEqualsIfExists", "7", (None, False, None)),
        ("StringEquals", ["7", "8"], (None, False, True)),
        ("NumericLessThan", "9", (None, None, True)),
        ("NumericLessThan", "8", (None, None, None)),
        ("NumericGreaterThanIfExists", "9", (None, None, False)),
        ("ArnLike", "*", (None, True, True)),
        ("ForAllValues:StringLike", "*", (True, True, True)),
        ("ForAnyValue:StringLike", "*", (None, True, True)),
        ("ForAnyValue:StringNotLike", "AROA:*", (None, False, True)),
        ("ForAllValues:StringEquals", "7", (None, False, None)),
        ("Null", "true", (None, False, False)),
        ("Null", "false", (None, True, True)),
        ("Null", ["true", "false"], (True, True, True)),
    ],
)
def test_operators_with_a_value_that_is_not_all_known(operator, value, right):
    request = about(form=iam.Some(("AROA:*",)), two=iam.Some(("7", "8")))
    got = []
    for key in ("any", "form", "two"):
        found = verdict(allow(Condition={operator: {key: value}}), request=request)
        got.append(None if found == (key,) else found)
    assert tuple(got) == right


def test_one_session_of_a_role_as_principal():
    request = iam.Request("s3:GetObject", "arn:aws:s3:::b/k", principal=("AWS", "arn:aws:iam::1:role/team/r"))
    one = allow(Principal={"AWS": "arn:aws:sts::1:assumed-role/r/x"})
    assert verdict(one, request=request) == ("Principal",)
    assert verdict(allow(Principal={"AWS": "arn:aws:sts::1:assumed-role/s/x"}), request=request) is False
    assert verdict(one, allow(Principal={"AWS": "1"}), request=request) is True
    assert verdict(allow(Principal="*"), deny(NotPrincipal=one["Principal"]), request=request) == ("Principal",)


def test_an_unknown_operator_does_not_hide_in_a_statement_about_something_else():
    with pytest.raises(iam.PolicyError, match="unknown condition operator"):
        verdict(allow(), deny("iam:*", "*", Condition={"StringMatches": {"k": "a"}}))


def test_values_that_are_no_numbers_or_dates():
    for operator, value in (("NumericLessThan", "NaN"), ("DateLessThan", "9" * 20)):
        with pytest.raises(iam.PolicyError, match="is not a"):
            holds({operator: {"k": value}}, k="1")


def test_a_variable_can_hold_a_whole_arn():
    assert holds({"ArnEquals": {"k": "${l}"}}, k="arn:aws:s3:::b", l="arn:aws:s3:::b")
