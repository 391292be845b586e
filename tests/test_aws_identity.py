"""The identity report: a chain is complete, or its first broken link is named exactly."""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import chain, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import report as identity_report
from aws_api import ACCOUNT, ISSUER, OTHER, REGION, ROLES, options, policy_name, run, service_account

KEY = "eks.amazonaws.com/role-arn"
# tests/test_aws_pods.py has the last one.
LINKS = identity_report.IRSA[:-1]
PROVIDER = names.provider_arn(ISSUER, ACCOUNT, "aws")


def chains(live=None, issuer=ISSUER, denied=(), **given):
    """Follow the chains; `live` replaces the annotations of some ServiceAccounts (None: absent)."""
    wanted = options(**given)
    notes = {f"{item['namespace']}/{item['name']}": {KEY: item["role_arn"]} for item in wanted["service_accounts"]}
    if wanted["pod_identity"]:
        notes = {name: {} for name in notes}
    account = aws_api.account_of(wanted["region"])
    aws_api.make_buckets(account, wanted)
    watch = aws_api.Watch(account, denied)
    found = identity_report.Reporter(account, wanted, {**notes, **(live or {})}, issuer).chains()
    assert watch.writes == []
    return {item.service_account: item for item in found}


def vllm(**given):
    return chains(**given)["ml-models/vllm-sa"].data()


def test_all_chains_close(cloud):
    run()
    found = chains()
    assert [chain.broken for chain in found.values()] == ["", "", "", ""]
    assert all(list(chain.links) == list(LINKS) for chain in found.values())
    lines = chain.table(list(found.values()), LINKS)
    assert len(lines) == 5
    assert all(line.endswith("closed") for line in lines[1:])


SID = aws_api.Owner(ACCOUNT, REGION, "staging").sid


def trust_with(cloud, change, sid=SID):
    client = cloud.client("iam")
    document = client.get_role(RoleName=ROLES[1])["Role"]["AssumeRolePolicyDocument"]
    change(next(item for item in document["Statement"] if item["Sid"] == sid))
    client.update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(document))


def equals(statement):
    return statement["Condition"]["StringEquals"]


HOST = ISSUER.removeprefix("https://")


def role_gone(cloud):
    client = cloud.client("iam")
    client.delete_role_policy(RoleName=ROLES[1], PolicyName=policy_name())
    client.delete_role(RoleName=ROLES[1])


def other_audience(cloud):
    client = cloud.client("iam")
    client.delete_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER)
    client.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["other"])


def policy_with(cloud, change):
    client, key = cloud.client("iam"), {"RoleName": ROLES[1], "PolicyName": policy_name()}
    document = client.get_role_policy(**key)["PolicyDocument"]
    document["Statement"] = [item for item in document["Statement"] if change(item)]
    client.put_role_policy(**key, PolicyDocument=json.dumps(document))


def bounded(cloud):
    client = cloud.client("iam")
    limit = policies.document([{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}])
    arn = client.create_policy(PolicyName="limit", PolicyDocument=json.dumps(limit))["Policy"]["Arn"]
    client.put_role_permissions_boundary(RoleName=ROLES[1], PermissionsBoundary=arn)


def denied_by_managed(cloud):
    client = cloud.client("iam")
    no = policies.document([{"Sid": "No", "Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}])
    arn = client.create_policy(PolicyName="no", PolicyDocument=json.dumps(no))["Policy"]["Arn"]
    client.attach_role_policy(RoleName=ROLES[1], PolicyArn=arn)


BREAKS = {
    "provider absent": (lambda c: c.client("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER), "provider", "absent"),
    "provider's audience": (
        other_audience,
        "provider", "audience: ",
    ),
    "role absent": (role_gone, "role", "absent: the account has no"),
    "subject": (
        lambda c: trust_with(c, lambda s: equals(s).update({f"{HOST}:sub": "system:serviceaccount:default:vllm-sa"})),
        "trust", "subject: the role trusts system:serviceaccount:default:vllm-sa, not system:serviceaccount:ml-models:vllm-sa",
    ),
    "audience": (
        lambda c: trust_with(c, lambda s: equals(s).update({f"{HOST}:aud": "other"})),
        "trust", "audience: the role trusts other, not sts.amazonaws.com",
    ),
    "another provider": (
        lambda c: trust_with(c, lambda s: s.update(Principal={"Federated": f"{PROVIDER}X"})), "trust", "issuer: no statement names",
    ),
    "denied": (lambda c: trust_with(c, lambda s: s.update(Effect="Deny")), "trust", "is denied by the statement"),
    "no get": (lambda c: policy_with(c, lambda s: s["Action"] != "s3:GetObject"), "policy", "lacks s3:GetObject for GetObject"),
    "no list": (lambda c: policy_with(c, lambda s: s["Action"] != "s3:ListBucket"), "policy", "lacks s3:ListBucket for ListObjectsV2"),
    "boundary": (bounded, "policy", "the permissions boundary does not allow s3:GetObject"),
    "managed policy": (denied_by_managed, "policy", "s3:GetObject is denied by the statement No"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_link_in_aws_is_named(cloud, name):
    run()
    change, link, reason = BREAKS[name]
    change(cloud)
    found = chains()
    assert found["ml-models/vllm-sa"].broken == link
    assert reason in found["ml-models/vllm-sa"].links[link]
    others = {chain.broken for name, chain in found.items() if name != "ml-models/vllm-sa"}
    assert others == ({"provider"} if link == "provider" else {""})


def test_what_cannot_be_judged_is_neither_closed_nor_broken(cloud):
    run()
    trust_with(cloud, lambda s: s.update(Condition={"NumericEquals": {f"{HOST}:sub": "1"}}))
    found = chains()["ml-models/vllm-sa"]
    data = found.data()
    assert (data["closed"], data["broken"], data["unjudged"]) == (False, "", "trust")
    assert data["reason"].startswith("can't be judged: ")
    assert data["links"]["policy"] == "ok"  # what comes after is still looked at
    lines = chain.table([found], LINKS)
    assert lines[1].split()[-3:] == ["ok", "ok", "unknown"]
    assert lines[3].startswith("ml-models/vllm-sa: trust: can't be judged: ")


def test_a_broken_link_in_the_cluster_is_named(cloud):
    run()
    sa = "ml-models/vllm-sa"
    for live, reason in (
        ({sa: None}, "the ServiceAccount is absent"),
        ({sa: {}}, "absent: the ServiceAccount has no eks.amazonaws.com/role-arn"),
        ({sa: {KEY: "arn:aws:iam::1:role/x"}}, "names arn:aws:iam::1:role/x, the inventory"),
    ):
        found = vllm(live=live)
        assert (found["broken"], found["closed"]) == ("annotation", False)
        assert reason in found["reason"]
    found = vllm(live={sa: {KEY: f"arn:aws:iam::{ACCOUNT}:role/{ROLES[1]}", "eks.amazonaws.com/audience": "other"}})
    assert found["broken"] == "provider"
    assert "does not list other" in found["reason"]


def test_issuers_that_differ_are_named(cloud):
    cloud.eks.cluster("staging")
    run(oidc_issuer="")
    found = vllm(oidc_issuer="", issuer="https://elsewhere")
    assert found["broken"] == "issuer"
    assert "the cluster signs as https://elsewhere, EKS says https://oidc.eks" in found["reason"]
    # A cluster that does not tell is taken at EKS's word.
    assert vllm(oidc_issuer="", issuer=None)["closed"]


def test_the_wrong_account_or_partition_is_named(cloud):
    for role, given, reason in (
        (
            f"arn:aws:iam::{OTHER}:role/r",
            {"account_id": OTHER},
            f"wrong account: the role is in {OTHER}, and there is no credential for",
        ),
        (f"arn:aws-cn:iam::{ACCOUNT}:role/r", {}, "wrong partition: the role is in aws-cn"),
        (f"arn:aws:iam::{OTHER}:role/r", {"pod_identity": True}, "EKS Pod Identity gives no role of the account"),
    ):
        found = vllm(service_accounts=[service_account("vllm", "vllm-sa", role)], **given)
        assert found["broken"] == "account"
        assert reason in found["reason"]


def test_triton_without_a_right_to_its_own_repository(cloud):
    run()
    accounts = [service_account("triton", "triton-inference", ROLES[0], reads=["s3://elsewhere/models"])]
    found = chains(service_accounts=accounts)["ml-models/triton-inference"]
    assert found.broken == "policy"
    assert "lacks s3:ListBucket for HeadBucket" in found.links["policy"]


def test_an_account_is_judged_by_its_own_access(cloud):
    """Whatever another that carries the same role may."""
    run()
    accounts = [
        service_account("triton", "triton-inference", ROLES[0]),
        service_account("triton", "triton-inference-gpu", ROLES[0], access=[{"bucket": "other-models"}]),
        service_account("vllm", "vllm-sa", ROLES[1], access=[], variable="vllm_profiles.x.access"),
    ]
    found = chains(service_accounts=accounts)
    assert not found["ml-models/triton-inference"].broken
    assert "lacks s3:ListBucket for ListObjectsV2" in found["ml-models/triton-inference-gpu"].links["policy"]
    assert found["ml-models/vllm-sa"].links["policy"] == "vllm_profiles.x.access names no bucket"


def test_a_role_that_may_write_where_it_should_only_read(cloud):
    run()
    wide = policies.document([{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}])
    cloud.client("iam").put_role_policy(RoleName=ROLES[1], PolicyName="theirs", PolicyDocument=json.dumps(wide))
    found = vllm()
    assert found["closed"]
    assert "only reads my-mlflow-artifacts, and its role allows s3:PutObject" in " ".join(found["notices"])


def test_pod_identity(cloud):
    cloud.eks.cluster("staging")
    given = {"oidc_issuer": "", "pod_identity": True}
    assert vllm(**given)["broken"] == "association"
    run(**given)
    assert {chain.broken for chain in chains(**given).values()} == {""}
    annotated = {"ml-models/vllm-sa": {KEY: "arn:aws:iam::1:role/x"}}
    assert vllm(**given, live=annotated)["broken"] == "annotation"
    # The role trusts another cluster's Pod Identity only.
    trust_with(
        cloud,
        lambda s: equals(s).update({"aws:RequestTag/eks-cluster-arn": f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/x"}),
    )
    assert vllm(**given)["broken"] == "trust"
    next(iter(cloud.eks.associations.values()))["roleArn"] += "x"
    assert "association" in {chain.broken for chain in chains(**given).values()}


# --- What can't be known ------------------------------------------------------------------------------


def with_policy(cloud, *statements, role=ROLES[1], name="theirs"):
    text = json.dumps(policies.document(statements))
    cloud.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=text)


def no(**condition):
    return {"Sid": "No", "Effect": "Deny", "Action": "s3:*", "Resource": "*", "Condition": condition}


ROLE = f"arn:aws:iam::{ACCOUNT}:role/{ROLES[1]}"


@pytest.mark.parametrize(
    ("condition", "broken", "key"),
    [
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, "", "aws:SourceIp"),
        ({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}, "", "aws:SourceVpce"),
        ({"StringNotEquals": {"aws:RequestedRegion": REGION}}, "", ""),
        ({"StringEquals": {"aws:RequestedRegion": REGION}}, "policy", ""),
        ({"ArnEquals": {"aws:PrincipalArn": ROLE}}, "policy", ""),
        ({"StringEquals": {"aws:PrincipalTag/team": "ml"}}, "policy", ""),
        ({"StringNotEquals": {"aws:PrincipalTag/team": "ml"}}, "", ""),
        ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, "policy", ""),
        ({"StringEquals": {f"{HOST}:sub": "system:serviceaccount:ml-models:vllm-sa"}}, "", f"{HOST}:sub"),
    ],
)  # fmt: skip
def test_a_policy_with_a_condition_key(cloud, condition, broken, key):
    run()
    with_policy(cloud, no(**condition))
    found = vllm()
    assert (found["broken"], found["unjudged"]) == (broken, "policy" if key else "")
    assert found["closed"] is not bool(broken or key)
    if key:
        assert found["reason"].startswith(f"can't be judged: {key} (in the statement No) decides whether s3:")


@pytest.mark.parametrize(
    ("condition", "broken", "key"),
    [
        ({"Bool": {"aws:SecureTransport": "false"}}, "trust", ""),
        ({"Bool": {"aws:SecureTransport": "true"}}, "", ""),
        ({"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, "trust", ""),
        ({"StringEquals": {"aws:RequestedRegion": REGION}}, "", "aws:RequestedRegion"),
        ({"StringLike": {"sts:RoleSessionName": "vllm-*"}}, "", "sts:RoleSessionName"),
    ],
)
def test_a_trust_policy_with_a_condition_key(cloud, condition, broken, key):
    run()
    trust_with(cloud, lambda s: s["Condition"].update(condition))
    found = vllm()
    assert (found["broken"], found["unjudged"]) == (broken, "trust" if key else "")
    assert found["reason"].startswith(f"can't be judged: {key} (in the statement" if key else "aws:" if broken else "")


def test_where_sts_is_asked_is_known_by_the_annotation(cloud):
    run()
    trust_with(cloud, lambda s: equals(s).update({"aws:RequestedRegion": REGION}))
    note = {KEY: ROLE, "eks.amazonaws.com/sts-regional-endpoints": "true"}
    assert vllm(live={"ml-models/vllm-sa": note})["closed"]


def test_a_policy_that_cannot_be_read_ends_no_report(cloud):
    run()
    denied_by_managed(cloud)
    found = chains(denied=("iam:GetPolicyVersion",))
    assert found["ml-models/vllm-sa"].unjudged == "policy"
    assert "policy/no can't be read: iam:GetPolicyVersion" in found["ml-models/vllm-sa"].links["policy"]
    assert found["ml-models/workflow-sa"].state == "closed"
    # What is refused all the same is broken.
    policy_with(cloud, lambda s: s["Action"] != "s3:GetObject")
    with_policy(cloud, no())
    assert chains(denied=("iam:GetPolicyVersion",))["ml-models/vllm-sa"].broken == "policy"


def test_what_cannot_be_judged_is_a_warning_and_no_failure(cloud):
    run()
    with_policy(cloud, no(IpAddress={"aws:SourceIp": "10.0.0.0/8"}))
    found = chain.outcome(list(chains().values()), strict=True)
    assert not found["failed"]
    assert "ml-models/vllm-sa: policy: can't be judged: aws:SourceIp" in " ".join(found["warnings"])
    role_gone_later = [*chains(live={"ml-models/vllm-sa": None}).values()]
    assert chain.outcome(role_gone_later, strict=True)["failed"]
    assert not chain.outcome(role_gone_later, strict=False)["failed"]


# --- What there is beyond the inventory -----------------------------------------------------------------


def add_trust(**statement):
    def change(cloud):
        client = cloud.client("iam")
        document = client.get_role(RoleName=ROLES[1])["Role"]["AssumeRolePolicyDocument"]
        document["Statement"].append({**document["Statement"][0], **statement})
        client.update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(document))

    return change


def widened(statement):
    del equals(statement)[f"{HOST}:sub"]
    statement["Condition"]["StringLike"] = {f"{HOST}:sub": "system:serviceaccount:*:*"}


ALL = {"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}
OTHER_SID = aws_api.Owner(ACCOUNT, "eu-west-1", "prod").sid
DRIFT = {
    "subject": (lambda c: trust_with(c, widened), f"the statement {SID} lets in sub system:serviceaccount:*:* of {PROVIDER}"),
    "everyone": (add_trust(Principal={"AWS": "*"}, Sid="Public"), "lets in AWS *"),
    "everyone under a name like ours": (add_trust(Principal={"AWS": "*"}, Sid="ModelyardProd01234567"), "the statement ModelyardProd01234567 lets in AWS *"),
    "everyone under our name": (lambda c: trust_with(c, lambda s: s.update(Principal={"AWS": "*"})), f"the statement {SID} lets in AWS *"),
    "a policy with a name like ours": (lambda c: with_policy(c, ALL, name="modelyard-other"), "policy modelyard-other, statement All, allows * on *"),
    "our policy": (lambda c: with_policy(c, ALL, name=policy_name()), f"policy {policy_name()}, statement All, allows * on *"),
    "a tag": (lambda c: c.client("iam").tag_role(RoleName=ROLES[1], Tags=[{"Key": "cost", "Value": "x"}]), "has tags that the inventory does not: cost"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIFT)
def test_what_a_role_has_beyond_the_inventory_is_told(cloud, name):
    run()
    assert [chain.notices for chain in chains().values()] == [[], [], [], []]
    change, told = DRIFT[name]
    change(cloud)
    found = chains()
    # Whether its chain closes or not.
    assert f"role {ROLES[1]}" in " ".join(found["ml-models/vllm-sa"].notices)
    assert told in " ".join(found["ml-models/vllm-sa"].notices)
    assert told in " ".join(chains(live={"ml-models/vllm-sa": None})["ml-models/vllm-sa"].notices)
    assert [found[name].notices for name in found if name != "ml-models/vllm-sa"] == [[], [], []]


def test_other_clusters_of_a_role_are_named_and_are_no_drift(cloud):
    run()
    theirs = [service_account("vllm", "vllm-sa", ROLES[1], access=[{"bucket": "theirs"}])]
    run(cluster="prod", region="eu-west-1", oidc_issuer=f"{ISSUER}B", buckets={}, service_accounts=theirs)
    policy = f"policy modelyard-prod@eu-west-1@{ACCOUNT}"
    (notice,) = chains()["ml-models/vllm-sa"].notices
    assert (
        notice == f"role {ROLES[1]}: {policy} allows more, and is that of another cluster, which the role's tags name"
    )
    # What a run would not write is nobody's, whatever its name.
    trust_with(cloud, lambda s: s.update(Principal={"AWS": "*"}), OTHER_SID)
    with_policy(cloud, ALL, name=f"modelyard-prod@eu-west-1@{ACCOUNT}")
    told = " ".join(chains()["ml-models/vllm-sa"].notices)
    assert f"the statement {OTHER_SID} lets in AWS *" in told
    assert "statement All, allows * on *" in told


def test_a_provider_with_more_than_the_inventory_s(cloud):
    run(tags={"cost": "x"})
    key = {"OpenIDConnectProviderArn": PROVIDER}
    client = cloud.client("iam")
    tags = client.get_open_id_connect_provider(**key)["Tags"]
    client.delete_open_id_connect_provider(**key)
    client.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com", "more"], Tags=tags)
    told = vllm(tags={})
    assert told["closed"]
    assert f"{PROVIDER} lists audiences that the inventory does not: more" in told["notices"]
    assert f"{PROVIDER} has tags that the inventory does not: cost" in told["notices"]


def test_an_association_with_more_than_the_inventory_s(cloud):
    cloud.eks.cluster("staging")
    given = {"oidc_issuer": "", "pod_identity": True}
    run(**given)
    live = cloud.eks.associations[cloud.eks.association("staging", "ml-models", "vllm-sa")]
    live["tags"]["cost"] = "x"
    live["policy"] = json.dumps(policies.document([{**ALL, "Action": "s3:List*"}]))
    found = vllm(**given)
    assert (
        "lacks s3:GetObject for GetObject: the policy of the Pod Identity association: no statement allows"
        in found["reason"]
    )
    told = " ".join(found["notices"])
    assert "association of ml-models/vllm-sa has a policy of its own" in told
    assert "association of ml-models/vllm-sa has tags that the inventory does not: cost" in told
    live["policy"] = json.dumps(policies.document([ALL]))
    assert vllm(**given)["closed"]
    live["disableSessionTags"] = True
    found = vllm(**given)
    assert found["broken"] == "trust"
    assert "session tag kubernetes-namespace: the role trusts ml-models, not none" in found["reason"]
    assert "sets no session tags (disableSessionTags)" in " ".join(found["notices"])
    live["targetRoleArn"] = "arn:aws:iam::1:role/x"
    assert "to arn:aws:iam::1:role/x (targetRoleArn)" in vllm(**given)["reason"]


def test_a_cluster_that_eks_does_not_know_is_named(cloud):
    run()
    missing = f"EKS has no cluster staging in {REGION} of account {ACCOUNT}: set irsa_eks_cluster_name to its name"
    assert missing in vllm(oidc_issuer="", issuer=None)["reason"]
    found = vllm(oidc_issuer="")
    assert found["closed"]
    assert missing in found["notices"][0]
    found = vllm(oidc_issuer="", pod_identity=True)
    assert (found["broken"], found["reason"]) == ("association", f"absent: {missing}")


def test_the_policy_of_a_bucket_of_another_account_holds(cloud):
    """Whose the bucket is, irsa_buckets says."""
    given = {
        "buckets": {"data": {"account_id": OTHER}},
        "service_accounts": [service_account("vllm", "vllm-sa", ROLES[1], access=[{"bucket": "data"}])],
        "role_arns": [],
    }
    run(**given)
    assert vllm(**given)["links"]["policy"] == "ok"


def test_the_policy_of_a_bucket_that_is_read_by_an_alias_holds(cloud):
    point = {"access_point": f"arn:aws:s3:{REGION}:{ACCOUNT}:accesspoint/models"}
    reads = ["s3://models-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias/7"]
    access = [{"bucket": "data", "prefixes": ["7"], **point}]
    given = {
        "buckets": {},
        "service_accounts": [service_account("vllm", "vllm-sa", ROLES[1], access=access, reads=reads)],
        "role_arns": [],
    }
    run(**given)
    found = vllm(**given)
    assert found["links"]["policy"] == "ok"
    assert not [link for link, said in found["links"].items() if "s3alias" in said]


def test_an_account_that_writes_by_another_entry_does_not_only_read(cloud):
    point = {"access_point": f"arn:aws:s3:{REGION}:{ACCOUNT}:accesspoint/models"}
    reads, writes = {"bucket": "data", "prefixes": ["a"], **point}, {"bucket": "data", "write": True, **point}

    def told(*access):
        return vllm(
            buckets={},
            service_accounts=[service_account("vllm", "vllm-sa", ROLES[1], access=list(access))],
            role_arns=[],
        )["notices"]

    cloud.client("s3").create_bucket(Bucket="data", CreateBucketConfiguration={"LocationConstraint": REGION})
    given = [service_account("vllm", "vllm-sa", ROLES[1], access=[reads, writes])]
    run(buckets={}, service_accounts=given, role_arns=[])
    assert told(reads, writes) == []
    only = [line for line in told(reads) if "only reads data" in line]
    assert len(set(only)) == len(only) == 2
