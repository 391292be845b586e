"""docs/aws-policy-boundary.json: with these rights a complete run works, and every way out of the boundary is closed.

Each request is judged by the project's evaluator, with the role's boundary as AWS puts it to the condition iam:PermissionsBoundary: of
CreateRole and PutRolePermissionsBoundary the one that is asked for, of the others the one that the role has (Service Authorization
Reference, AWS Identity and Access Management). moto refuses the actions that no statement allows; conditions and ARNs it does not judge.
"""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ACTIONS, Account, AwsError
from aws_api import ACCOUNT, REGION, ROLES, everything, options, run

DOCS = aws_api.ROOT / "docs"


def document(name):
    return json.loads((DOCS / name).read_text(encoding="utf-8").replace("111122223333", ACCOUNT))


RIGHTS, FREE, LIMIT = (document(f"{name}.json") for name in ("aws-policy-boundary", "aws-policy", "aws-boundary"))
ALL = policies.document([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
BOUNDARY, OTHER_BOUNDARY = (f"arn:aws:iam::{ACCOUNT}:policy/{name}" for name in ("my-boundary", "other"))
ISSUER = f"https://oidc.eks.{REGION}.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
PODS = {"iam:PassedToService": "pods.eks.amazonaws.com"}
PATH = "/modelyard/"
ROLE = ROLES[1]
ARN = f"arn:aws:iam::{ACCOUNT}:role{PATH}{ROLE}"
ACCOUNTS = [
    {**item, "role_arn": item["role_arn"].replace(":role/", f":role{PATH}")} for item in options()["service_accounts"]
]
GIVEN = {"service_accounts": ACCOUNTS, "role_arns": [], "permissions_boundary": BOUNDARY, "oidc_issuer": ISSUER}
POD = {**GIVEN, "oidc_issuer": "", "pod_identity": True}


def actions(policy, effect="Allow"):
    return {action for item in policy["Statement"] if item["Effect"] == effect for action in iam.listed(item["Action"])}


# --- What a request asks for --------------------------------------------------------------------------


def _of_iam(account, action, given):
    """Name the resource of a request to IAM, and what its conditions see."""
    role = given.get("RoleName")
    if role is None:
        url = names.provider_arn(given.get("Url", ""), ACCOUNT, "aws")
        named = given.get("OpenIDConnectProviderArn") or given.get("PolicyArn") or (url if "Url" in given else "")
        yield action, named, {}
        if given.get("Tags"):
            yield "iam:TagOpenIDConnectProvider", named, {}
        return
    client = account.client("iam")
    try:
        live = client.get_role(RoleName=role)["Role"]
    except client.exceptions.NoSuchEntityException:
        live = {"Arn": f"arn:aws:iam::{ACCOUNT}:role{given.get('Path', '/')}{role}"}
    if action == "iam:CreateRole":
        live["Arn"] = f"arn:aws:iam::{ACCOUNT}:role{given.get('Path', '/')}{role}"
        live.pop("PermissionsBoundary", None)
    boundary = given.get("PermissionsBoundary") or live.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    yield action, live["Arn"], {"iam:PermissionsBoundary": boundary} if boundary else {}
    if given.get("Tags"):
        yield "iam:TagRole", live["Arn"], {}


def _of_eks(action, given):
    place = f"arn:aws:eks:{REGION}:{ACCOUNT}"
    cluster = given.get("clusterName") or given.get("name")
    one = f"{place}:podidentityassociation/{cluster}/{given.get('associationId', 'new')}"
    of_cluster = action.endswith(("Cluster", "Associations", ":CreatePodIdentityAssociation"))
    yield action, given.get("resourceArn") or (f"{place}:cluster/{cluster}" if of_cluster else one), {}
    if action.endswith(":CreatePodIdentityAssociation"):
        yield "eks:TagResource", one, {}
    for key in ("roleArn", "targetRoleArn"):
        if given.get(key):
            yield "iam:PassRole", given[key], PODS


def asked(account, service, operation, given):
    """List what a request asks for: action, ARN, and the condition keys that it has."""
    api = f"{service}:{account.client(service).meta.method_to_api_mapping[operation]}"
    action = ACTIONS.get(api, api)
    if service == "iam":
        return list(_of_iam(account, action, given))
    if service == "eks":
        return list(_of_eks(action, given))
    if service == "s3":
        also = ("s3:PutBucketOwnershipControls", "s3:TagResource") if operation == "create_bucket" else ()
        return [(name, f"arn:aws:s3:::{given['Bucket']}", {}) for name in (action, *also)]
    return [(action, "", {})] if api != "sts:GetCallerIdentity" else []


def allowed(action, resource, context, rights=(RIGHTS,), boundary=None):
    return iam.decide(rights, iam.Request(action, resource, context), boundary).allowed


@pytest.fixture
def limited(cloud, monkeypatch):
    """An account in which whoever runs has these rights alone."""
    client = cloud.client("iam")
    client.create_policy(PolicyName="my-boundary", PolicyDocument=json.dumps(LIMIT))
    client.create_policy(PolicyName="other", PolicyDocument=json.dumps(ALL))
    for operation in ("call", "pages"):
        real = getattr(Account, operation)

        def judged(self, service, operation, /, *more, real=real, **given):
            for action, resource, context in asked(self, service, operation, given):
                if not allowed(action, resource, context):
                    raise AwsError(f"{action} on {resource} is denied", "AccessDenied")
            return real(self, service, operation, *more, **given)

        monkeypatch.setattr(Account, operation, judged)
    return cloud


# --- What a run needs ---------------------------------------------------------------------------------


def test_the_rights_are_those_without_a_boundary_less_its_removal():
    assert actions(FREE) - actions(RIGHTS) == {"iam:DeleteRolePermissionsBoundary"}
    assert actions(RIGHTS) <= actions(FREE)


def test_a_complete_run_works_with_these_rights(limited):
    run(**GIVEN)
    made = everything(limited)
    assert {made[role]["PermissionsBoundary"]["PermissionsBoundaryArn"] for role in ROLES} == {BOUNDARY}
    assert run(**GIVEN).writes == []
    client = limited.client("iam")
    anyone = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    client.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(policies.document([anyone])))
    client.put_role_policy(RoleName=ROLE, PolicyName=aws_api.policy_name(), PolicyDocument=json.dumps(ALL))
    client.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=OTHER_BOUNDARY)
    client.delete_role_permissions_boundary(RoleName=ROLES[0])
    client.update_role(RoleName=ROLE, MaxSessionDuration=7200)
    client.untag_role(RoleName=ROLE, TagKeys=["team"])
    limited.client("s3").delete_bucket_policy(Bucket="my-triton-models")
    run(**GIVEN)
    assert everything(limited) == made
    # Another cluster with the same rights on the same roles, and the end of both.
    second = {**GIVEN, "cluster": "staging-2", "eks_cluster_name": "staging"}
    run(**second)
    run(**second, state="absent")
    assert everything(limited) == made
    run(**GIVEN, state="absent")
    assert everything(limited) == {"associations": {}}


def test_with_pod_identity_too(limited):
    limited.eks.cluster("staging")
    run(**POD)
    made = everything(limited)
    for item in limited.eks.associations.values():
        item.update(disableSessionTags=True, policy="{}")
    run(**POD)
    assert run(**POD).writes == []
    assert len(limited.eks.associations) == len(made["associations"])
    run(**POD, state="absent")
    assert everything(limited) == {"associations": {}}


def test_a_failed_run_is_taken_back_with_these_rights(limited):
    with pytest.raises(AwsError, match="the earlier writes were rolled back"):
        run(**GIVEN, denied=[f"iam:PutRolePolicy {ROLES[2]}"])
    assert everything(limited) == {"associations": {}}
    run(**GIVEN)
    made = everything(limited)
    with pytest.raises(AwsError, match="the earlier writes were rolled back"):
        run(**GIVEN, state="absent", denied=["iam:DeleteOpenIDConnectProvider"])
    assert everything(limited) == made


@pytest.mark.parametrize("boundary", ["", OTHER_BOUNDARY])
def test_another_boundary_or_none_is_refused_with_the_way_out(limited, boundary):
    given = {**GIVEN, "permissions_boundary": boundary}
    with pytest.raises(AwsError, match=r"irsa_permissions_boundary must be the ARN that they name"):
        run(**given)
    assert everything(limited) == {"associations": {}}
    run(**GIVEN)
    made = everything(limited)
    with pytest.raises(AwsError) as error:
        run(**given)
    action = "PutRolePermissionsBoundary" if boundary else "DeleteRolePermissionsBoundary"
    assert f"iam:{action} on {ARN.replace(ROLE, ROLES[2])} is denied" in str(error.value)
    assert "only an administrator can remove or change a role's boundary then" in str(error.value)
    assert everything(limited) == made


def test_a_boundary_that_a_run_has_put_on_a_role_stays_where_the_run_fails_and_is_named(limited):
    """Taking that back would need the right to remove boundaries. The role can do less, not more, by it."""
    limited.client("iam").create_role(
        RoleName=ROLE,
        Path=PATH,
        AssumeRolePolicyDocument=json.dumps(policies.document([])),
        Tags=[{"Key": "managed-by", "Value": "modelyard"}],
    )
    with pytest.raises(AwsError, match=f"Not rolled back: change role {ROLE}: permissions boundary {BOUNDARY}"):
        run(**GIVEN, denied=["iam:UpdateAssumeRolePolicy"])


# --- The ways out -------------------------------------------------------------------------------------

ROLE_ALONE = {"RoleName": ROLE}
LISTED = {
    "RoleName": "my-mlserver-s3-read",
    "Path": PATH,
    "AssumeRolePolicyDocument": json.dumps(policies.document([])),
}
POLICY = {"PolicyName": "mine", "PolicyDocument": json.dumps(ALL)}
OWN = {"RoleName": "deployer"}
PROVIDER = names.provider_arn("https://token.example.com", ACCOUNT, "aws")
CALLS = {
    "a role without a boundary": ("iam", "create_role", LISTED),
    "a role with another boundary": ("iam", "create_role", {**LISTED, "PermissionsBoundary": OTHER_BOUNDARY}),
    "a role at another path": ("iam", "create_role", {**LISTED, "Path": "/", "PermissionsBoundary": BOUNDARY}),
    "a role below the path": ("iam", "create_role", {**LISTED, "Path": f"{PATH}x/", "PermissionsBoundary": BOUNDARY}),
    "a role that is not listed": ("iam", "create_role", {**LISTED, "RoleName": "x", "PermissionsBoundary": BOUNDARY}),
    "another boundary": ("iam", "put_role_permissions_boundary", {**ROLE_ALONE, "PermissionsBoundary": OTHER_BOUNDARY}),
    "no boundary": ("iam", "delete_role_permissions_boundary", ROLE_ALONE),
    "a managed policy": ("iam", "attach_role_policy", {**ROLE_ALONE, "PolicyArn": OTHER_BOUNDARY}),
    "without a managed policy": ("iam", "detach_role_policy", {**ROLE_ALONE, "PolicyArn": OTHER_BOUNDARY}),
    "a policy on a role without a boundary": ("iam", "put_role_policy", {"RoleName": ROLES[0], **POLICY}),
    "a policy on a role with another boundary": ("iam", "put_role_policy", {"RoleName": ROLES[2], **POLICY}),
    "no policy on a role without a boundary": (
        "iam", "delete_role_policy", {"RoleName": ROLES[0], "PolicyName": aws_api.policy_name()},
    ),
    "another version of the boundary": (
        "iam", "create_policy_version",
        {"PolicyArn": BOUNDARY, "PolicyDocument": json.dumps(ALL), "SetAsDefault": True},
    ),
    "an older version of the boundary": ("iam", "set_default_policy_version", {"PolicyArn": BOUNDARY, "VersionId": "v1"}),
    "no version of the boundary": ("iam", "delete_policy_version", {"PolicyArn": BOUNDARY, "VersionId": "v1"}),
    "no boundary policy": ("iam", "delete_policy", {"PolicyArn": BOUNDARY}),
    "a policy of one's own": ("iam", "create_policy", POLICY),
    "a policy on one's own role": ("iam", "put_role_policy", {**OWN, **POLICY}),
    "a boundary on one's own role": ("iam", "put_role_permissions_boundary", {**OWN, "PermissionsBoundary": BOUNDARY}),
    "the trust of a role without a boundary": (
        "iam", "update_assume_role_policy", {**OWN, "PolicyDocument": json.dumps(policies.document([]))},
    ),
    "the end of another role": ("iam", "delete_role", OWN),
    "longer sessions of another role": ("iam", "update_role", {**OWN, "MaxSessionDuration": 43200}),
    "tags of another role": ("iam", "tag_role", {**OWN, "Tags": [{"Key": "managed-by", "Value": "modelyard"}]}),
    "no tags of another role": ("iam", "untag_role", {**OWN, "TagKeys": ["team"]}),
    "an instance profile": ("iam", "add_role_to_instance_profile", {"InstanceProfileName": "p", **ROLE_ALONE}),
    "a user": ("iam", "create_user", {"UserName": "u"}),
    "a policy on a user": ("iam", "put_user_policy", {"UserName": "u", **POLICY}),
    "a provider of another issuer": (
        "iam", "create_open_id_connect_provider", {"Url": "https://token.example.com", "ClientIDList": [policies.AUDIENCE]},
    ),
    "no provider of another issuer": ("iam", "delete_open_id_connect_provider", {"OpenIDConnectProviderArn": PROVIDER}),
    "another audience of another issuer": (
        "iam", "add_client_id_to_open_id_connect_provider", {"OpenIDConnectProviderArn": PROVIDER, "ClientID": "x"},
    ),
    "other thumbprints": (
        "iam", "update_open_id_connect_provider_thumbprint",
        {"OpenIDConnectProviderArn": names.provider_arn(ISSUER, ACCOUNT, "aws"), "ThumbprintList": ["a" * 40]},
    ),
    "another role for a pod": (
        "eks", "create_pod_identity_association",
        {"clusterName": "staging", "namespace": "x", "serviceAccount": "x", "roleArn": f"arn:aws:iam::{ACCOUNT}:role/deployer"},
    ),
    "another role at the end of a pod's": (
        "eks", "create_pod_identity_association",
        {"clusterName": "staging", "namespace": "x", "serviceAccount": "x", "roleArn": ARN, "targetRoleArn": f"arn:aws:iam::{ACCOUNT}:role/deployer"},
    ),
    "a pod of another cluster": (
        "eks", "create_pod_identity_association", {"clusterName": "prod", "namespace": "x", "serviceAccount": "x", "roleArn": ARN},
    ),
    "another bucket": ("s3", "put_bucket_policy", {"Bucket": "audit-logs", "Policy": json.dumps(ALL)}),
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(aws_services):
    """A cluster's roles, one without a boundary by now and one with another, and what there is of others."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_services.env.items():
            patch.setenv(name, value)
        aws_services.reset()
        aws_services.eks.cluster("staging")
        client = aws_services.client("iam")
        client.create_policy(PolicyName="my-boundary", PolicyDocument=json.dumps(LIMIT))
        client.create_policy(PolicyName="other", PolicyDocument=json.dumps(ALL))
        run(**GIVEN)
        client.delete_role_permissions_boundary(RoleName=ROLES[0])
        client.put_role_permissions_boundary(RoleName=ROLES[2], PermissionsBoundary=OTHER_BOUNDARY)
        client.create_role(RoleName="deployer", AssumeRolePolicyDocument=json.dumps(policies.document([])))
        yield aws_api.account_of(REGION)


@pytest.mark.parametrize("way", CALLS)
def test_no_call_leads_out(prepared, way):
    parts = asked(prepared, *CALLS[way])
    assert not all(allowed(*part) for part in parts)


def test_each_kind_of_call_that_is_denied_is_allowed_within_the_boundary(prepared):
    """So it is the condition, or the name, that ends the ways above."""
    within = [
        ("iam", "create_role", {**LISTED, "PermissionsBoundary": BOUNDARY}),
        ("iam", "put_role_permissions_boundary", {"RoleName": ROLES[0], "PermissionsBoundary": BOUNDARY}),
        ("iam", "put_role_policy", {**ROLE_ALONE, **POLICY}),
        ("iam", "delete_role_policy", {**ROLE_ALONE, "PolicyName": "x"}),
        ("iam", "update_assume_role_policy", {**ROLE_ALONE, "PolicyDocument": "{}"}),
        ("iam", "create_open_id_connect_provider", {"Url": ISSUER, "Tags": [{"Key": "a", "Value": "b"}]}),
        ("eks", "create_pod_identity_association", {"clusterName": "staging", "roleArn": ARN}),
        ("s3", "put_bucket_policy", {"Bucket": "my-triton-models"}),
    ]
    for call in within:
        assert all(allowed(*part) for part in asked(prepared, *call)), call


SERVICES = ("lambda", "ec2", "ecs-tasks", "eks", "glue", "sagemaker", "cloudformation", "states")


@pytest.mark.parametrize("service", SERVICES)
def test_no_role_is_passed_to_another_service(service):
    for role in (ARN, f"arn:aws:iam::{ACCOUNT}:role/deployer"):
        assert not allowed("iam:PassRole", role, {"iam:PassedToService": f"{service}.amazonaws.com"})
        assert not allowed("iam:PassRole", role, {})
    assert allowed("iam:PassRole", ARN, PODS)


@pytest.mark.parametrize("beside", [FREE, ALL])
def test_the_boundary_and_its_policy_stay_whatever_else_the_credentials_may(beside):
    """Such as the rights without a boundary, which somebody forgot to take away."""
    assert allowed("iam:GetPolicy", BOUNDARY, {}, (RIGHTS, beside))
    for role in (ARN, f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"):
        assert not allowed("iam:DeleteRolePermissionsBoundary", role, {}, (RIGHTS, beside))
    for action in ("CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "SetDefaultPolicyVersion"):
        assert not allowed(f"iam:{action}", BOUNDARY, {}, (RIGHTS, beside))


def test_nothing_hangs_on_tags_which_the_run_may_write():
    conditions = [key for item in RIGHTS["Statement"] for keys in item.get("Condition", {}).values() for key in keys]
    assert {*conditions} == {"iam:PermissionsBoundary", "iam:PassedToService"}


def test_no_wildcard_names_a_role_policy_or_provider_that_may_be_written():
    reads = (
        "ec2:Describe", "iam:Get", "iam:List", "kms:Describe", "kms:Get", "s3:Get", "s3:List", "servicequotas:Get", "tag:Get"
    )  # fmt: skip
    for item in RIGHTS["Statement"]:
        if item["Effect"] == "Allow" and not all(action.startswith(reads) for action in iam.listed(item["Action"])):
            resources = iam.listed(item["Resource"])
            assert not any("*" in resource.removesuffix("podidentityassociation/staging/*") for resource in resources)


# --- By moto ------------------------------------------------------------------------------------------


@pytest.fixture
def enforced(cloud, monkeypatch):
    """moto refuses what these rights' actions do not hold. It knows neither conditions nor most ARNs, so these are left out of what is allowed."""
    wide = [
        {**{key: value for key, value in item.items() if key != "Condition"}, "Resource": "*"}
        for item in RIGHTS["Statement"]
    ]
    client = cloud.client("iam")
    for name, what in (("my-boundary", LIMIT), ("other", ALL), ("rights", policies.document(wide))):
        client.create_policy(PolicyName=name, PolicyDocument=json.dumps(what))
    client.create_user(UserName="deployer")
    client.attach_user_policy(UserName="deployer", PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/rights")
    key = client.create_access_key(UserName="deployer")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    reset = f"{cloud.url}/moto-api/reset-auth"
    assert cloud.http.request("POST", reset, body="0").status == 200
    yield cloud
    cloud.http.request("POST", reset, body="inf")


BY_ACTION = [way for way, (_, operation, _) in CALLS.items() if operation.split("_")[0] in ("attach", "detach", "set", "add")] + [
    "no boundary", "another version of the boundary", "no version of the boundary", "no boundary policy", "a policy of one's own", "a user",
    "a policy on a user",
]  # fmt: skip


def test_moto_lets_a_run_through_and_ends_the_ways_out(enforced):
    run(**GIVEN, buckets={})
    assert run(**GIVEN, buckets={}).writes == []
    account = aws_api.account_of(REGION)
    for way in BY_ACTION:
        service, operation, given = CALLS[way]
        if operation != "add_client_id_to_open_id_connect_provider":  # which a run may, of its own
            with pytest.raises(AwsError) as error:
                account.call(service, operation, **given)
            assert error.value.code == "AccessDenied", way
    run(**GIVEN, buckets={}, state="absent")


# --- The boundary itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", [entry for item in ACCOUNTS for entry in item["access"]], ids=lambda entry: entry["bucket"]
)
def test_the_boundary_lets_servers_do_what_they_need(entry):
    key = LIMIT["Statement"][-1]["Resource"]
    for given in (entry, {**entry, "kms_key_arn": key}):
        permissions = policies.permissions([given], ACCOUNT, "aws")
        for name, request in policies.requests(given, ACCOUNT, "aws"):
            assert iam.decide([permissions], request, LIMIT).allowed, name


REACHED = {
    "another role": ("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {}),
    "IAM": ("iam:CreateUser", f"arn:aws:iam::{ACCOUNT}:user/x", {}),
    "its own boundary": ("iam:DeleteRolePermissionsBoundary", ARN, {"iam:PermissionsBoundary": BOUNDARY}),
    "another bucket": ("s3:GetObject", "arn:aws:s3:::audit-logs/x", {"aws:ResourceAccount": ACCOUNT}),
    "a bucket whose name somebody else took": (
        "s3:PutObject", "arn:aws:s3:::my-vllm-data/x", {"aws:ResourceAccount": aws_api.OTHER},
    ),
    "a bucket's policy": ("s3:PutBucketPolicy", "arn:aws:s3:::my-triton-models", {"aws:ResourceAccount": ACCOUNT}),
    "the key, not through S3": ("kms:Decrypt", LIMIT["Statement"][-1]["Resource"], {}),
    "pods' nodes": ("ec2:RunInstances", "*", {}),
}  # fmt: skip


@pytest.mark.parametrize("what", REACHED)
def test_with_any_policy_a_role_reaches_nothing_else(what):
    assert not allowed(*REACHED[what], rights=(ALL,), boundary=LIMIT)
