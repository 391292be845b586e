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


def chains(live=None, issuer=ISSUER, **given):
    """Follow the chains; `live` replaces the annotations of some ServiceAccounts (None: absent)."""
    wanted = options(**given)
    notes = {f"{item['namespace']}/{item['name']}": {KEY: item["role_arn"]} for item in wanted["service_accounts"]}
    if wanted["pod_identity"]:
        notes = {name: {} for name in notes}
    account = aws_api.account_of(wanted["region"])
    aws_api.make_buckets(account, wanted)
    watch = aws_api.Watch(account)
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


def trust_with(cloud, change):
    client = cloud.client("iam")
    document = client.get_role(RoleName=ROLES[1])["Role"]["AssumeRolePolicyDocument"]
    change(document["Statement"][0])
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
