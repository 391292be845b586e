"""What the inventory no longer names: it is found, and removed or named, as long as it is ours and nobody else needs it."""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from aws_api import ACCOUNT, ISSUER, OTHER, REGION, ROLES, everything, options, replay, run, service_account

NOTHING = {"associations": {}}
PROD = {"cluster": "prod", "buckets": {}}
PROVIDER = names.provider_arn(ISSUER, ACCOUNT, "aws")
ACCOUNTS = options()["service_accounts"]


def without(component):
    """The inventory whose component has no role (`*_role_name` is empty)."""
    left = [item for item in ACCOUNTS if item["component"] != component]
    return {**PROD, "service_accounts": left, "role_arns": [item["role_arn"] for item in left]}


def renamed(role):
    """The inventory in which vLLM's role has another name, or path."""
    found = without("vllm")
    accounts = [*found["service_accounts"], service_account("vllm", "vllm-sa", role)]
    return {**found, "service_accounts": accounts, "role_arns": [item["role_arn"] for item in accounts]}


# `platform_irsa_enabled: false`.
OFF = {**PROD, "service_accounts": [], "role_arns": []}
CHANGES = {
    "irsa off": (OFF, {*ROLES, PROVIDER}),
    "role name emptied": (without("vllm"), {ROLES[1]}),
    "role renamed": (renamed("vllm-new"), {ROLES[1]}),
    "all renamed": (
        {**PROD, "service_accounts": [service_account("vllm", "vllm-sa", "vllm-new")], "role_arns": []}, {*ROLES},
    ),
    "role elsewhere": (renamed(f"arn:aws:iam::{OTHER}:role/vllm"), {ROLES[1]}),
}  # fmt: skip


def made(_cloud):
    run(**PROD)


def earlier(cloud):
    """By 0.1.0."""
    replay(cloud, "prod")
    # Its bucket is no matter here.
    cloud.client("s3").delete_bucket(Bucket="my-triton-models")


@pytest.mark.parametrize("before", [made, earlier])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_switched_off_or_renamed_leaves_no_trust(cloud, before, change):
    given, gone = CHANGES[change]
    before(cloud)
    there = set(everything(cloud))
    foretold = run(**given, check=True).changes
    assert run(**given).changes == foretold
    assert there - set(everything(cloud)) == gone
    assert run(**given).writes == []
    run(**given, state="absent")
    assert everything(cloud) == NOTHING


@pytest.mark.parametrize("before", [made, earlier])
@pytest.mark.parametrize("change", CHANGES)
def test_a_teardown_finds_it_too(cloud, before, change):
    before(cloud)
    run(**CHANGES[change][0], state="absent")
    assert everything(cloud) == NOTHING


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_kept_and_named_where_the_operator_says_so(cloud, change):
    """While a role is renamed, pods that have not been deployed yet still use the old one."""
    given, gone = CHANGES[change]
    run(**PROD)
    there = set(everything(cloud))
    kept = run(**given, prune=False)
    assert there <= set(everything(cloud))
    for role in gone & {*ROLES}:
        assert f"role {role} still trusts this cluster, and the inventory no longer names it: kept" in str(kept.notices)
    again = run(**given, prune=False)
    assert (again.writes, again.notices) == ([], kept.notices)
    run(**given, prune=False, state="absent")
    assert everything(cloud) == NOTHING


def test_another_clusters_part_of_it_stays(cloud):
    second = {**PROD, "cluster": "second", "oidc_issuer": f"{ISSUER}2"}
    run(**second)
    expected = everything(cloud)
    run(**PROD)
    run(**OFF)
    assert everything(cloud) == expected


def test_without_the_clusters_issuer_it_is_found_too(cloud):
    """The EKS cluster is gone, and with it what said its issuer."""
    run(**PROD)
    run(**OFF, oidc_issuer="")
    assert everything(cloud) == NOTHING


def test_a_role_with_policies_of_others_is_refused_with_the_ways_out(cloud):
    run(**PROD)
    cloud.client("iam").put_role_policy(
        RoleName=ROLES[1],
        PolicyName="theirs",
        PolicyDocument=json.dumps(policies.permissions([{"bucket": "x"}], ACCOUNT, "aws")),
    )
    before = everything(cloud)
    with pytest.raises(Refused, match=r"detach them first: theirs \(or keep the role, with irsa_prune: false\)"):
        run(**OFF)
    assert everything(cloud) == before


def test_a_role_that_is_not_ours_is_named(cloud):
    run(**PROD)
    cloud.client("iam").untag_role(RoleName=ROLES[1], TagKeys=["managed-by"])
    said = run(**without("vllm"))
    assert f"role {ROLES[1]} trusts this cluster, the inventory does not name it, and it is not ours" in str(
        said.notices
    )
    assert ROLES[1] in everything(cloud)


def test_a_role_whose_tag_somebody_removed_is_found_by_its_statement(cloud):
    run(**PROD)
    tag = aws_api.Owner(ACCOUNT, REGION, "prod").tag
    cloud.client("iam").untag_role(RoleName=ROLES[1], TagKeys=[tag])
    run(**without("vllm"))
    assert ROLES[1] not in everything(cloud)


# --- Providers --------------------------------------------------------------------------------------


def stranger(cloud):
    """A role of somebody else, for pods of this cluster."""
    trust = policies.document(
        [policies.web_identity_statement("Theirs", PROVIDER, ["system:serviceaccount:dns:external-dns"])]
    )
    cloud.client("iam").create_role(RoleName="external-dns", AssumeRolePolicyDocument=json.dumps(trust))


@pytest.mark.parametrize("ends", [OFF, {**PROD, "state": "absent"}, {**OFF, "oidc_issuer": ""}])
def test_a_provider_that_another_role_trusts_is_kept_and_named(cloud, ends):
    run(**PROD)
    stranger(cloud)
    done = run(**ends)
    assert f"OIDC provider {PROVIDER}: kept, because other roles trust it: external-dns" in done.notices
    assert set(everything(cloud)) == {*NOTHING, "external-dns", PROVIDER}
    assert run(**ends).writes == []
    # It is still ours: when nobody trusts it any more, a run removes it.
    cloud.client("iam").delete_role(RoleName="external-dns")
    run(**ends)
    assert everything(cloud) == NOTHING


def test_a_recreated_clusters_old_provider_goes(cloud):
    run(**PROD)
    run(**PROD, oidc_issuer=f"{ISSUER}2")
    assert PROVIDER not in everything(cloud)
    assert run(**PROD, oidc_issuer=f"{ISSUER}2").writes == []
    run(**PROD, prune=False)
    assert len([name for name in everything(cloud) if "oidc-provider" in name]) == 2
    run(**PROD, state="absent")
    assert everything(cloud) == NOTHING


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"Federated": [PROVIDER, "cognito-identity.amazonaws.com"]}])
def test_a_statement_of_ours_that_somebody_edited_is_no_obstacle(cloud, principal):
    run(**PROD)
    trust = everything(cloud)[ROLES[1]]["AssumeRolePolicyDocument"]
    trust["Statement"][0]["Principal"] = principal
    cloud.client("iam").update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(trust))
    run(**without("vllm"))
    assert ROLES[1] not in everything(cloud)


# --- Pod Identity -----------------------------------------------------------------------------------


def test_associations_in_a_namespace_that_the_inventory_left(cloud):
    cloud.eks.cluster("prod")
    pod = {"pod_identity": True, "oidc_issuer": ""}
    run(**PROD, **pod)
    moved = [{**item, "namespace": "models"} for item in ACCOUNTS]
    kept = run(**PROD, **pod, namespace="models", service_accounts=moved, prune=False)
    assert len(cloud.eks.associations) == 8
    assert "Pod Identity association of ml-models/vllm-sa: the inventory no longer names its namespace" in str(
        kept.notices
    )
    run(**PROD, **pod, namespace="models", service_accounts=moved)
    assert {item["namespace"] for item in cloud.eks.associations.values()} == {"models"}
    run(**OFF, **pod)
    assert everything(cloud) == NOTHING


# --- Buckets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"state": "absent"}, {"prune": False}])
def test_a_bucket_that_the_inventory_no_longer_names_is_kept_and_named(cloud, given):
    run(**{**PROD, "buckets": {"my-triton-models": {}}})
    run(**{**PROD, "cluster": "second", "oidc_issuer": f"{ISSUER}2", "buckets": {"another": {}}})
    kept = run(**PROD, **given)
    said = [line for line in kept.notices if line.startswith("bucket ")]
    assert said == ["bucket my-triton-models is this cluster's by its tags, and irsa_buckets does not name it: kept"]
    assert "my-triton-models" in everything(cloud)
    denied = run(**PROD, **given, denied=["tag:GetResources"])
    assert "tag:GetResources is denied to" in str(denied.notices)
    # Where that is as the operator wants it, not each run says so.
    assert run(**PROD, check=True).notices == []


# --- Rights that a run does without -----------------------------------------------------------------


def test_without_the_right_to_list_roles_a_run_says_so_and_goes_on(cloud):
    run(**PROD)
    done = run(**renamed("vllm-new"), denied=["iam:ListRoles"])
    assert "iam:ListRoles is denied to" in str(done.notices)
    assert "Roles that the inventory no longer names are not found" in str(done.notices)
    assert {"vllm-new", ROLES[1]} <= set(everything(cloud))
    gone = run(**renamed("vllm-new"), state="absent", denied=["iam:ListRoles"])
    assert "whether another role trusts it is not known: kept. Grant iam:ListRoles" in str(gone.notices)
    assert set(everything(cloud)) == {*NOTHING, ROLES[1], PROVIDER}


def test_without_the_right_to_list_providers_a_run_says_so_and_goes_on(cloud):
    run(**PROD)
    gone = run(**PROD, state="absent", denied=["iam:ListOpenIDConnectProviders"])
    assert "iam:ListOpenIDConnectProviders is denied to" in str(gone.notices)
    assert everything(cloud) == NOTHING


def test_a_role_that_may_not_be_read_is_named(cloud):
    run(**PROD)
    done = run(**without("vllm"), denied=[f"iam:GetRole {ROLES[1]}"])
    assert f"role {ROLES[1]} trusts this cluster, the inventory does not name it, and iam:GetRole" in str(done.notices)
    assert ROLES[1] in everything(cloud)
