"""The AWS side of a cluster, created in moto: the result, what is refused, and that a failure leaves nothing half-created."""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from aws_api import everything, options, policy_name, run, service_account

ACCOUNT, OTHER, REGION = aws_api.ACCOUNT, aws_api.OTHER, aws_api.REGION
ROLES, ISSUER = aws_api.ROLES, aws_api.ISSUER


def trust_of(cloud, role, account=ACCOUNT):
    return cloud.client("iam", account).get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]


def policy_of(cloud, role, cluster="staging", account=ACCOUNT):
    found = cloud.client("iam", account).get_role_policy(RoleName=role, PolicyName=policy_name(cluster))
    return found["PolicyDocument"]


def token(name, namespace="ml-models", issuer=ISSUER, account=ACCOUNT, audience="sts.amazonaws.com"):
    provider = names.provider_arn(issuer, account, "aws")
    return iam.web_identity(provider, {"sub": names.subject(namespace, name), "aud": [audience]})


def trusted(cloud, role, request, account=ACCOUNT):
    return iam.decide([trust_of(cloud, role, account)], request).allowed


# --- What is made -----------------------------------------------------------------------------------


def test_a_first_run_makes_everything(cloud):
    run()
    found = everything(cloud)
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER.removeprefix('https://')}"
    assert {*ROLES, provider, "my-triton-models"} == set(found) - {"associations"}
    assert found[provider]["ClientIDList"] == ["sts.amazonaws.com"]
    tags = {pair["Key"]: pair["Value"] for pair in found[ROLES[0]]["Tags"]}
    assert tags == {"managed-by": "modelyard", f"modelyard/cluster/{ACCOUNT}/{REGION}/staging": "true", "team": "ml"}
    bucket = found["my-triton-models"]
    assert bucket["get_bucket_versioning"]["Status"] == "Enabled"
    assert set(bucket["get_public_access_block"]["PublicAccessBlockConfiguration"].values()) == {True}
    rule = bucket["get_bucket_encryption"]["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    rules = {rule["ID"]: rule for rule in bucket["get_bucket_lifecycle_configuration"]["Rules"]}
    assert rules["modelyard-noncurrent-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
    assert rules["modelyard-multipart-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7


def test_a_role_trusts_exactly_who_carries_it(cloud):
    run()
    for role, carriers in zip(
        ROLES, (("triton-inference", "triton-inference-gpu"), ("vllm-sa",), ("workflow-sa",)), strict=True
    ):
        assert len(trust_of(cloud, role)["Statement"]) == 1
        for name in (
            "triton-inference",
            "triton-inference-gpu",
            "vllm-sa",
            "workflow-sa",
            "default",
            "triton-inference-g",
        ):
            assert trusted(cloud, role, token(name)) is (name in carriers)
            assert not trusted(cloud, role, token(name, "default"))
            assert not trusted(cloud, role, token(name, audience="https://kubernetes.default.svc"))
            assert not trusted(cloud, role, token(name, issuer=ISSUER + "B"))
            assert not trusted(cloud, role, token(name, account=OTHER))


def allowed(cloud, role, operation, bucket, key="", **more):
    return iam.decide([policy_of(cloud, role)], iam.s3(operation, bucket, key, account=ACCOUNT, **more)).allowed


def test_a_policy_allows_what_its_client_does_and_no_more(cloud):
    run()
    triton, vllm, workflow = ROLES
    assert allowed(cloud, triton, "HeadBucket", "my-triton-models")
    assert allowed(cloud, triton, "GetObject", "my-triton-models", "m/1/model.onnx")
    assert not allowed(cloud, triton, "PutObject", "my-triton-models", "m/1/model.onnx")
    assert not allowed(cloud, triton, "GetObject", "my-mlflow-artifacts", "7/a")
    assert not allowed(cloud, vllm, "HeadBucket", "my-mlflow-artifacts")
    assert allowed(cloud, vllm, "ListObjectsV2", "my-mlflow-artifacts", prefix="7/a/")
    assert not allowed(cloud, vllm, "ListObjectsV2", "my-mlflow-artifacts", prefix="8/")
    assert not allowed(cloud, vllm, "ListObjectsV2", "my-mlflow-artifacts", prefix="")
    assert allowed(cloud, vllm, "GetObject", "my-mlflow-artifacts", "7/a/adapter.safetensors")
    assert not allowed(cloud, vllm, "GetObject", "my-mlflow-artifacts", "77/a")
    for bucket in ("my-triton-models", "my-mlflow-artifacts", "my-vllm-data"):
        for operation in ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListParts"):
            assert allowed(cloud, workflow, operation, bucket, "k")
        assert allowed(cloud, workflow, "ListObjectsV2", bucket, prefix="")
        assert not allowed(cloud, workflow, "HeadBucket", bucket)
    # A bucket of that name in someone else's account.
    stolen = iam.s3("PutObject", "my-vllm-data", "k", account=OTHER)
    assert not iam.decide([policy_of(cloud, workflow)], stolen).allowed


def test_a_role_may_do_what_each_of_its_carriers_may(cloud):
    other = [{"bucket": "other-models", "prefixes": ["gpu"]}]
    accounts = [
        service_account("triton", "triton-inference", ROLES[0]),
        service_account("triton", "triton-inference-gpu", ROLES[0], access=other),
        service_account("workflow", "workflow-sa", ROLES[0], access=[*other, {"bucket": "out", "write": True}]),
    ]
    run(service_accounts=accounts, role_arns=[])
    # What two of them say is said once.
    assert len(policy_of(cloud, ROLES[0])["Statement"]) == 7
    assert allowed(cloud, ROLES[0], "GetObject", "my-triton-models", "m")
    assert allowed(cloud, ROLES[0], "GetObject", "other-models", "gpu/m")
    assert allowed(cloud, ROLES[0], "PutObject", "out", "m")
    assert not allowed(cloud, ROLES[0], "GetObject", "other-models", "m")
    assert not allowed(cloud, ROLES[0], "PutObject", "other-models", "gpu/m")


def test_no_wildcard_but_in_the_object_key(cloud):
    run()
    for role in ROLES:
        for statement in policy_of(cloud, role)["Statement"]:
            assert not any("*" in action for action in iam.listed(statement["Action"]))
            for resource in iam.listed(statement["Resource"]):
                bucket, _, key = resource.partition("/")
                assert "*" not in bucket
                assert resource == bucket or key.endswith("*")


# --- Again, and in check mode -----------------------------------------------------------------------


def test_a_second_run_writes_nothing(cloud):
    assert run().writes
    again = run()
    assert (again.writes, again.changes) == ([], [])


def test_check_mode_writes_nothing_and_foretells_the_run(cloud):
    empty = everything(cloud)
    foretold = run(check=True)
    assert foretold.writes == []
    assert everything(cloud) == empty
    done = run()
    assert done.changes == foretold.changes
    assert len(done.writes) == len(foretold.changes)
    assert len(set(done.changes)) == len(done.changes)


def test_a_manual_edit_is_taken_back_with_a_notice(cloud):
    run()
    wanted = everything(cloud)
    client, s3 = cloud.client("iam"), cloud.client("s3")
    hole = {"Sid": "Anyone", "Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    trust = trust_of(cloud, ROLES[1])
    trust["Statement"].append(hole)
    client.update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(trust))
    client.put_role_policy(
        RoleName=ROLES[1], PolicyName=policy_name(), PolicyDocument=json.dumps(policy_of(cloud, ROLES[2]))
    )
    client.update_role(RoleName=ROLES[0], MaxSessionDuration=7200)
    client.untag_role(RoleName=ROLES[0], TagKeys=["team"])
    s3.delete_public_access_block(Bucket="my-triton-models")
    s3.put_bucket_versioning(Bucket="my-triton-models", VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_policy(Bucket="my-triton-models")
    s3.delete_bucket_lifecycle(Bucket="my-triton-models")
    again = run()
    assert everything(cloud) == wanted
    assert "Anyone" in " ".join(again.notices)
    assert len(again.writes) == 8


def test_foreign_statements_rules_and_tags_of_a_bucket_stay(cloud):
    run()
    s3, name = cloud.client("s3"), "my-triton-models"
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    audit = {
        "Sid": "Audit",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutBucketAcl",
        "Resource": f"arn:aws:s3:::{name}",
    }
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps({**policy, "Statement": [audit]}))
    rule = {"ID": "old-logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    s3.put_bucket_tagging(
        Bucket=name, Tagging={"TagSet": [{"Key": "managed-by", "Value": "modelyard"}, {"Key": "cost", "Value": "1"}]}
    )
    run()
    assert {item["Sid"] for item in json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]} == {
        "Audit",
        "ModelyardTlsOnly",
    }
    assert {item["ID"] for item in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]} == {
        "old-logs",
        "modelyard-noncurrent-versions",
        "modelyard-multipart-uploads",
    }
    assert {pair["Key"] for pair in s3.get_bucket_tagging(Bucket=name)["TagSet"]} >= {
        "cost",
        f"modelyard/cluster/{ACCOUNT}/{REGION}/staging",
    }
    assert run().writes == []


# --- Whose it is ------------------------------------------------------------------------------------


def refused(**given):
    with pytest.raises(Refused) as error:
        run(**given)
    return str(error.value)


def foreign(cloud):
    """What somebody else made under our names."""
    trust = policies.document(
        [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
    )
    cloud.client("iam").create_role(RoleName=ROLES[0], AssumeRolePolicyDocument=json.dumps(trust))
    cloud.client("s3").create_bucket(
        Bucket="my-triton-models", CreateBucketConfiguration={"LocationConstraint": REGION}
    )


def test_what_is_not_ours_is_refused_and_taken_over_only_by_name(cloud):
    foreign(cloud)
    before = everything(cloud)
    said = refused()
    assert f"role {ROLES[0]} exists and is not ours" in said
    assert "bucket my-triton-models exists and is not ours" in said
    assert "irsa_adopt" in said
    assert everything(cloud) == before
    assert "bucket my-triton-models" not in refused(adopt=["my-triton-models"])
    run(adopt=["my-triton-models", ROLES[0]])
    assert run().writes == []
    assert trusted(cloud, ROLES[0], token("triton-inference"))


def test_a_provider_of_others_is_used_and_never_deleted(cloud):
    client = cloud.client("iam")
    arn = client.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])[
        "OpenIDConnectProviderArn"
    ]
    assert not any("OIDC provider" in change for change in run().changes)
    run(state="absent")
    assert set(everything(cloud)) == {"associations", arn}


def test_a_provider_of_others_without_the_audience_is_refused(cloud):
    client = cloud.client("iam")
    arn = client.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["other"])["OpenIDConnectProviderArn"]
    assert f"OIDC provider {arn} exists and is not ours" in refused()
    run(adopt=[arn])
    assert set(everything(cloud)[arn]["ClientIDList"]) == {"other", "sts.amazonaws.com"}


def test_policies_that_others_attached_are_left_and_named(cloud):
    run()
    cloud.client("iam").put_role_policy(
        RoleName=ROLES[1], PolicyName="theirs", PolicyDocument=json.dumps(policy_of(cloud, ROLES[1]))
    )
    again = run()
    assert again.writes == []
    assert f"role {ROLES[1]} has policies that are not ours, and are left: theirs" in " ".join(again.notices)
    before = everything(cloud)
    assert "it can't be deleted" in refused(state="absent")
    assert everything(cloud) == before


# --- Teardown ---------------------------------------------------------------------------------------


def test_a_teardown_leaves_nothing_and_can_be_done_again(cloud):
    run()
    foretold = run(check=True, state="absent").changes
    assert run(state="absent").changes == foretold
    assert everything(cloud) == {"associations": {}}
    assert run(state="absent").writes == []


@pytest.mark.parametrize("held", ["object", "old version", "delete marker", "upload"])
def test_a_bucket_that_holds_anything_is_not_deleted(cloud, held):
    run()
    s3, name = cloud.client("s3"), {"Bucket": "my-triton-models", "Key": "k"}
    # moto applies the statement that refuses plain HTTP to all, whatever its condition says.
    s3.delete_bucket_policy(Bucket="my-triton-models")
    if held == "upload":
        s3.create_multipart_upload(**name)
    else:
        version = s3.put_object(**name, Body=b"x")["VersionId"]
        if held != "object":
            s3.delete_object(**name)
        if held == "delete marker":
            s3.delete_object(**name, VersionId=version)
    before = everything(cloud)
    assert "bucket my-triton-models holds" in refused(state="absent")
    assert everything(cloud) == before
    # Taken out of the inventory, it stays, and the rest goes.
    run(state="absent", buckets={})
    assert "my-triton-models" in everything(cloud)
    assert ROLES[0] not in everything(cloud)


STATEMENTS = {
    "somebody's": policies.web_identity_statement("Theirs", f"arn:aws:iam::{ACCOUNT}:oidc-provider/h", ["a"]),
    # Its tag is gone.
    "another cluster's": policies.web_identity_statement(
        Owner(ACCOUNT, REGION, "prod-eu").sid, f"arn:aws:iam::{ACCOUNT}:oidc-provider/h", ["a"]
    ),
}


@pytest.mark.parametrize("whose", STATEMENTS)
def test_a_role_that_trusts_others_too_is_not_deleted(cloud, whose):
    run()
    trust = trust_of(cloud, ROLES[1])
    trust["Statement"].append(STATEMENTS[whose])
    cloud.client("iam").update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(trust))
    before = everything(cloud)
    said = refused(state="absent")
    assert f"role {ROLES[1]} trusts others too, so it can't be deleted" in said
    assert STATEMENTS[whose]["Sid"] in said
    assert everything(cloud) == before


def test_a_teardown_takes_no_statement_of_others_out_of_a_shared_role(cloud):
    run()
    run(**second())
    trust = trust_of(cloud, ROLES[1])
    trust["Statement"].append(STATEMENTS["somebody's"])
    cloud.client("iam").update_assume_role_policy(RoleName=ROLES[1], PolicyDocument=json.dumps(trust))
    run(**second(state="absent"))
    assert {item["Sid"] for item in trust_of(cloud, ROLES[1])["Statement"]} == {
        "Theirs",
        Owner(ACCOUNT, REGION, "staging").sid,
    }


def test_a_bucket_with_statements_of_others_is_not_deleted(cloud):
    run()
    s3, name = cloud.client("s3"), "my-triton-models"
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    policy["Statement"].append({**policy["Statement"][0], "Sid": "Audit"})
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    before = everything(cloud)
    said = refused(state="absent")
    assert "bucket my-triton-models has statements of others in its policy, so it is not deleted" in said
    assert "irsa_buckets to keep it: Audit" in said
    assert everything(cloud) == before


def test_what_is_not_ours_survives_a_teardown(cloud):
    foreign(cloud)
    before = everything(cloud)
    assert run(state="absent").writes == []
    assert everything(cloud) == before


def test_a_role_that_nobody_carries_any_more_goes(cloud):
    run()
    left = [item for item in options()["service_accounts"] if item["component"] != "vllm"]
    run(service_accounts=left)
    assert ROLES[1] not in everything(cloud)
    assert ROLES[0] in everything(cloud)


def test_a_profile_that_is_switched_off_is_trusted_no_more(cloud):
    run()
    left = [item for item in options()["service_accounts"] if item["name"] != "triton-inference-gpu"]
    run(service_accounts=left)
    assert trusted(cloud, ROLES[0], token("triton-inference"))
    assert not trusted(cloud, ROLES[0], token("triton-inference-gpu"))


# --- Two clusters -----------------------------------------------------------------------------------


SECOND = f"{ISSUER}2"


def second(**given):
    return {"cluster": "prod-eu", "oidc_issuer": SECOND, **given}


def test_two_clusters_share_roles_and_the_first_to_go_takes_only_its_own(cloud):
    run()
    alone = everything(cloud)
    run(**second())
    for issuer in (ISSUER, SECOND):
        assert trusted(cloud, ROLES[1], token("vllm-sa", issuer=issuer))
        assert not trusted(cloud, ROLES[1], token("workflow-sa", issuer=issuer))
    assert [len(trust_of(cloud, role)["Statement"]) for role in ROLES] == [2, 2, 2]
    # Neither undoes what the other did.
    assert run().writes == []
    assert run(**second()).writes == []
    run(**second(state="absent"))
    assert everything(cloud) == alone


def test_clusters_may_have_roles_of_their_own(cloud):
    for cluster, issuer in (("staging", ISSUER), ("prod-eu", SECOND)):
        role = f"{cluster}-vllm-s3-read"
        accounts = [service_account("vllm", "vllm-sa", role)]
        run(cluster=cluster, oidc_issuer=issuer, service_accounts=accounts, role_arns=[], buckets={})
    assert trusted(cloud, "staging-vllm-s3-read", token("vllm-sa"))
    assert not trusted(cloud, "staging-vllm-s3-read", token("vllm-sa", issuer=SECOND))
    assert not trusted(cloud, "prod-eu-vllm-s3-read", token("vllm-sa"))


def test_clusters_whose_names_look_alike_have_statements_of_their_own():
    found = {
        Owner(account, region, name).sid
        for name in ("ml-a", "mla", "ml_a")
        for account in (ACCOUNT, OTHER)
        for region in ("eu-west-1", "eu-west-2")
    }
    assert len(found) == 12


def test_a_trust_policy_that_outgrows_iams_quota_is_refused(cloud):
    clusters = [{"cluster": f"cluster-{number}", "oidc_issuer": f"{ISSUER}{number}"} for number in range(6)]
    several(clusters[:3])
    with pytest.raises(Refused, match=r"characters, and IAM takes 2048.* a role of its own"):
        several(clusters[3:])


def test_all_inline_policies_of_a_role_count_together(cloud):
    access = [{"bucket": "my-mlflow-artifacts", "prefixes": [f"experiment-{number}/" for number in range(70)]}]
    accounts = [service_account("vllm", "vllm-sa", ROLES[1], access=access)]
    run(service_accounts=accounts, role_arns=[], buckets={})
    before = everything(cloud)
    said = refused(**second(service_accounts=accounts, role_arns=[], buckets={}))
    assert f"the policy {policy_name('prod-eu')} (with {policy_name()}) of" in said
    assert "characters, and IAM takes 10240" in said
    assert everything(cloud) == before


def test_a_quota_that_aws_has_raised_for_the_account_counts(cloud, monkeypatch):
    real = Account.call

    def raised(self, service, operation, **arguments):
        """Stands in for such an account: moto's quota is fixed."""
        found = real(self, service, operation, **arguments)
        if operation == "get_account_summary":
            found["SummaryMap"]["AssumeRolePolicySizeQuota"] = 4096
        return found

    monkeypatch.setattr(Account, "call", raised)
    several([{"cluster": f"cluster-{number}", "oidc_issuer": f"{ISSUER}{number}"} for number in range(5)])
    trust = cloud.client("iam").get_role(RoleName="my-vllm-s3-read")["Role"]["AssumeRolePolicyDocument"]
    assert len(trust["Statement"]) == 5


def several(clusters):
    for given in clusters:
        run(**given, buckets={})


# --- Two accounts -----------------------------------------------------------------------------------


def test_the_credentials_of_another_account_are_refused(cloud):
    said = refused(account=OTHER)
    assert f"the AWS credentials lead to account {ACCOUNT}" in said
    assert f"irsa_account_id is {OTHER}" in said
    assert everything(cloud) == {"associations": {}}


@pytest.mark.parametrize("empty", ["account_id", "cluster_account_id"])
def test_a_cluster_whose_account_is_not_known_is_refused(cloud, empty):
    variable = {"account_id": "irsa_account_id", "cluster_account_id": "platform_aws_account_id"}[empty]
    said = refused(**{empty: ""}, service_accounts=[], role_arns=[])
    assert f"{variable} is empty" in said
    assert "set platform_aws_account_id" in said


def test_a_cluster_of_another_account_is_let_into_a_role(cloud, monkeypatch):
    """Account 2's cluster names account 1's role: it needs a provider for its own issuer there, and a statement."""
    run()
    guest = [
        service_account("vllm", "vllm-sa", ROLES[1], ACCOUNT),
        service_account("workflow", "workflow-sa", ROLES[2], OTHER),
    ]
    given = second(cluster_account_id=OTHER, service_accounts=guest, role_arns=[], buckets={"their-own": {}})
    run(**given)
    assert trusted(cloud, ROLES[1], token("vllm-sa", issuer=SECOND))
    provider = names.provider_arn(SECOND, ACCOUNT, "aws")
    assert everything(cloud)[provider]["ClientIDList"] == ["sts.amazonaws.com"]
    assert "their-own" not in everything(cloud)
    assert not trusted(cloud, ROLES[2], token("workflow-sa", issuer=SECOND))
    # In its own account it makes the rest, and says what is missing there.
    keys = cloud.credentials(OTHER)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    own = run(**{**given, "account_id": OTHER})
    assert set(everything(cloud, OTHER)) == {
        "associations",
        names.provider_arn(SECOND, OTHER, "aws"),
        ROLES[2],
        "their-own",
    }
    assert f"-e irsa_account_id={ACCOUNT}" in " ".join(own.notices)


# --- The cluster's issuer ---------------------------------------------------------------------------


def test_the_issuer_is_asked_of_eks(cloud):
    issuer = cloud.eks.cluster("staging")
    run(oidc_issuer="", api_server=cloud.eks.clusters["staging"]["endpoint"])
    assert trusted(cloud, ROLES[1], token("vllm-sa", issuer=issuer))
    # The cluster is gone: its roles still say which provider was its own.
    del cloud.eks.clusters["staging"]
    run(oidc_issuer="", state="absent")
    assert everything(cloud) == {"associations": {}}


def test_a_cluster_that_eks_does_not_know_or_that_is_another_is_refused(cloud):
    assert "EKS has no cluster 'staging' in eu-central-1" in refused(oidc_issuer="")
    cloud.eks.cluster("staging")
    said = refused(oidc_issuer="", api_server="https://0123.gr7.eu-central-1.eks.amazonaws.com")
    assert "the roles would trust another cluster" in said
    assert "can't ask EKS for the issuer of a cluster in account" in refused(oidc_issuer="", cluster_account_id=OTHER)
    assert everything(cloud) == {"associations": {}}


# --- EKS Pod Identity -------------------------------------------------------------------------------


def pod(name, namespace="ml-models", cluster="staging"):
    return iam.pod_identity(f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{cluster}", namespace, name)


def test_pod_identity_associates_and_trusts_exactly_who_carries_the_role(cloud):
    cloud.eks.cluster("staging")
    given = {"oidc_issuer": "", "pod_identity": True}
    run(**given)
    found = {item["serviceAccount"]: item["roleArn"].rpartition("/")[2] for item in cloud.eks.associations.values()}
    assert found == {
        "triton-inference": ROLES[0],
        "triton-inference-gpu": ROLES[0],
        "vllm-sa": ROLES[1],
        "workflow-sa": ROLES[2],
    }
    assert not any("oidc-provider" in name for name in everything(cloud))
    for action in ("sts:AssumeRole", "sts:TagSession"):
        request = iam.pod_identity(f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/staging", "ml-models", "vllm-sa", action)
        assert trusted(cloud, ROLES[1], request)
    for other in (pod("workflow-sa"), pod("vllm-sa", "default"), pod("vllm-sa", cluster="other"), token("vllm-sa")):
        assert not trusted(cloud, ROLES[1], other)
    assert run(**given).writes == []
    run(**given, state="absent")
    assert everything(cloud) == {"associations": {}}


def test_the_ways_are_changed_in_one_run_each(cloud):
    issuer = cloud.eks.cluster("staging")
    run(oidc_issuer="")
    run(oidc_issuer="", pod_identity=True)
    assert not trusted(cloud, ROLES[1], token("vllm-sa", issuer=issuer))
    assert not any("oidc-provider" in name for name in everything(cloud))
    run(oidc_issuer="")
    assert cloud.eks.associations == {}
    assert trusted(cloud, ROLES[1], token("vllm-sa", issuer=issuer))
    assert not trusted(cloud, ROLES[1], pod("vllm-sa"))


def test_an_association_of_others_is_refused(cloud):
    cloud.eks.cluster("staging")
    given = {"oidc_issuer": "", "pod_identity": True}
    eks = cloud.client("eks")
    eks.create_pod_identity_association(
        clusterName="staging", namespace="ml-models", serviceAccount="vllm-sa", roleArn="arn:aws:iam::1:role/x"
    )
    assert "Pod Identity association ml-models/vllm-sa exists and is not ours" in refused(**given)
    run(**given, adopt=["ml-models/vllm-sa"])
    assert {item["roleArn"].rpartition("/")[2] for item in cloud.eks.associations.values()} == set(ROLES)


# --- Settings ---------------------------------------------------------------------------------------


def test_boundary_path_tags_and_session_length(cloud):
    client = cloud.client("iam")
    limit = policies.permissions([{"bucket": "b"}], ACCOUNT, "aws")
    boundary = client.create_policy(PolicyName="limit", PolicyDocument=json.dumps(limit))["Policy"]["Arn"]
    accounts = [service_account("vllm", "vllm-sa", f"arn:aws:iam::{ACCOUNT}:role/team/ml/vllm")]
    given = {"service_accounts": accounts, "role_arns": [], "buckets": {}}
    run(**given, permissions_boundary=boundary, max_session_seconds=7200)
    role = client.get_role(RoleName="vllm")["Role"]
    assert role["Path"] == "/team/ml/"
    assert role["MaxSessionDuration"] == 7200
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    changed = run(**given, tags={"team": "other"})
    assert len(changed.writes) == 4  # the provider's tag, the role's tag, its session length, its boundary
    role = client.get_role(RoleName="vllm")["Role"]
    assert ("PermissionsBoundary" in role, role["MaxSessionDuration"]) == (False, 3600)
    assert {pair["Key"]: pair["Value"] for pair in role["Tags"]}["team"] == "other"


def test_a_role_at_another_path_is_refused(cloud):
    run()
    accounts = [service_account("vllm", "vllm-sa", f"arn:aws:iam::{ACCOUNT}:role/team/{ROLES[1]}")]
    assert "set platform_irsa_role_path" in refused(service_accounts=accounts, role_arns=[])


def test_a_bucket_with_a_key(cloud):
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234"
    access = [{"bucket": "b-1", "kms_key_arn": key, "head_bucket": True}]
    accounts = [service_account("triton", "triton-inference", ROLES[0], access=access)]
    given = {
        "service_accounts": accounts,
        "role_arns": [],
        "buckets": {"b-1": {"kms_key_arn": key, "noncurrent_days": 3}},
    }
    run(**given)
    found = everything(cloud)["b-1"]
    rule = found["get_bucket_encryption"]["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert (rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"], rule["BucketKeyEnabled"]) == (key, True)
    by_s3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
    document = policy_of(cloud, ROLES[0])
    assert iam.decide([document], iam.Request("kms:Decrypt", key, by_s3)).allowed
    assert not iam.decide([document], iam.Request("kms:Decrypt", key)).allowed
    assert not iam.decide([document], iam.Request("kms:GenerateDataKey", key, by_s3)).allowed
    assert run(**given).writes == []


@pytest.mark.parametrize(("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")])
def test_other_partitions(cloud, partition, region):
    issuer = f"https://oidc.eks.{region}.amazonaws.com/id/A"
    arn = f"arn:{partition}:iam::{ACCOUNT}:role/vllm"
    given = {
        "partition": partition,
        "region": region,
        "oidc_issuer": issuer,
        "service_accounts": [service_account("vllm", "vllm-sa", arn)],
        "role_arns": [],
        "buckets": {"b-2": {}},
    }
    run(**given)
    client = cloud.client("iam", region=region)
    role = client.get_role(RoleName="vllm")["Role"]
    statement = role["AssumeRolePolicyDocument"]["Statement"][0]
    assert (
        statement["Principal"]["Federated"]
        == f"arn:{partition}:iam::{ACCOUNT}:oidc-provider/{issuer.removeprefix('https://')}"
    )
    policy = client.get_role_policy(RoleName="vllm", PolicyName=policy_name(region=region))["PolicyDocument"]
    assert all(
        resource.startswith(f"arn:{partition}:s3:::")
        for item in policy["Statement"]
        for resource in iam.listed(item["Resource"])
    )
    assert run(**given).writes == []
    assert "lead to the partition aws, but platform_aws_partition is" in refused(**{**given, "region": REGION})
