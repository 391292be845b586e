"""One AWS account, spoken to with boto3: read all, work out every write, then write in an order that leaves nothing open.

Credentials are boto3's own business (environment, profile, instance role) and never pass through here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import aws, iam
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

CONFIG = Config(connect_timeout=10, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
ABSENT = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchEntity",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchTagSet",
        "ResourceNotFoundException",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
# Characters by default: of a trust policy, and of all inline policies of a role. AWS raises the first on request.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
QUOTAS = {"AssumeRolePolicySizeQuota": 2048, "RolePolicySizeQuota": 10240}
DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
# Where the action that an operation needs has another name (Service Authorization Reference).
ACTIONS = {
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
# What a message calls the thing that an operation is about.
SUBJECTS = (
    "RoleName",
    "OpenIDConnectProviderArn",
    "Url",
    "Bucket",
    "serviceAccount",
    "associationId",
    "PolicyArn",
    "name",
)


# What undoes a write that has no inverse of its own: nothing, since what it was about goes; or a search for what was made.
WITH_THE_BUCKET = ("", {})
DELETE_ASSOCIATION = "delete_pod_identity_association"


class AwsError(Failure):
    """AWS did not do what it was asked, in words for the operator.

    Attributes:
        code: AWS's own code of the error, '' where there was no answer.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Write:
    """One write: what is called, how it reads, and how it is taken back."""

    service: str
    operation: str
    arguments: dict
    summary: str
    undo: tuple[str, dict] | None = None
    before: Any = None
    after: Any = None

    def diff(self) -> dict:
        """Give the change in Ansible's form."""
        return {
            "before_header": self.summary,
            "after_header": self.summary,
            "before": _pretty(self.before),
            "after": _pretty(self.after),
        }


def _pretty(value: Any) -> str:
    return "" if value is None else json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"


class Account:
    """The account that the credentials lead to.

    Args:
        profile: a profile of the shared AWS configuration; '' for boto3's own search.
        region: where EKS, STS and S3 are asked.

    Attributes:
        id: 12 digits.
        partition: ``aws``, ``aws-cn`` or ``aws-us-gov``.
        caller: ARN of who asks.

    Raises:
        AwsError: there are no credentials, or AWS refuses them.
    """

    actions = ACTIONS

    def __init__(self, profile: str, region: str) -> None:
        self._clients: dict[str, Any] = {}
        self.id = self.caller = ""
        self.region = region
        try:
            self._session = boto3.Session(profile_name=profile or None, region_name=region)
        except BotoCoreError as error:
            raise AwsError(f"irsa_aws_profile: {error}") from None
        identity = self.call("sts", "get_caller_identity")
        self.id, self.caller = identity["Account"], identity["Arn"]
        self.partition = aws.partition_of(self.caller)

    def client(self, service: str) -> Any:
        """Give the boto3 client of a service; standard variables such as ``AWS_ENDPOINT_URL`` move it elsewhere."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=CONFIG)
        return self._clients[service]

    def call(self, service: str, operation: str, **arguments: Any) -> dict:
        """Call an operation of AWS.

        Raises:
            AwsError: it fails; the text names the right that is missing, where that is why.
        """
        try:
            return getattr(self.client(service), operation)(**arguments)
        except ClientError as error:
            raise self._failed(service, operation, arguments, error) from None
        except BotoCoreError as error:
            hint = "; give the job an AWS credential, or set irsa_aws_profile" if "credential" in str(error) else ""
            raise AwsError(f"{service}: {error}{hint}") from None
        except ResponseParserError as error:
            raise AwsError(f"{service}: what answers is not AWS: {error}") from None

    def find(self, service: str, operation: str, **arguments: Any) -> dict | None:
        """Call a reading operation; None where there is no such thing."""
        try:
            return self.call(service, operation, **arguments)
        except AwsError as error:
            if error.code in ABSENT:
                return None
            raise

    def pages(self, service: str, operation: str, key: str, **arguments: Any) -> list:
        """Call a listing operation until its end."""
        try:
            found = self.client(service).get_paginator(operation).paginate(**arguments)
            return [item for page in found for item in page.get(key) or []]
        except ClientError as error:
            raise self._failed(service, operation, arguments, error) from None
        except BotoCoreError as error:
            raise AwsError(f"{service}: {error}") from None

    def _failed(self, service: str, operation: str, arguments: Mapping, error: ClientError) -> AwsError:
        code = error.response["Error"].get("Code", "")
        name = f"{service}:{self.client(service).meta.method_to_api_mapping[operation]}"
        action = ACTIONS.get(name, name)
        subject = next((str(arguments[key]) for key in SUBJECTS if key in arguments), "")
        on = f" on {subject}" if subject else ""
        if code in DENIED:
            return AwsError(
                f"{action}{on} is denied to {self.caller or 'the credentials'}: docs/aws-policy.json lists what a run needs",
                code,
            )
        return AwsError(f"{action}{on} failed: {error.response['Error'].get('Message') or code}", code)


def written(account: Account, writes: list[Write]) -> None:
    """Do the writes, in order; when one fails, take those before it back, newest first.

    Raises:
        AwsError: a write failed. The text says whether everything is as it was.
    """
    done: list[Write] = []
    for write in writes:
        try:
            account.call(write.service, write.operation, **write.arguments)
        except AwsError as error:
            left = _undo(account, done)
            end = (
                f"Not taken back: {'; '.join(left)}"
                if left
                else "Nothing else has changed: what came before it is taken back"
            )
            raise AwsError(f"{write.summary}: {error}. {end if done else 'Nothing has changed'}.", error.code) from None
        done.append(write)


def _undo(account: Account, done: list[Write]) -> list[str]:
    left = []
    for write in reversed(done):
        if write.undo is None:
            left.append(write.summary)
            continue
        operation, arguments = write.undo
        try:
            if operation == DELETE_ASSOCIATION and "associationId" not in arguments:
                arguments = _association(account, arguments)
            if operation:
                account.call(write.service, operation, **arguments)
        except AwsError as error:
            left.append(f"{write.summary} ({error})")
    return left


def _association(account: Account, arguments: Mapping) -> dict:
    """Find the association that was made: its id is known only by then."""
    found = account.call("eks", "list_pod_identity_associations", **arguments)["associations"]
    return {"clusterName": arguments["clusterName"], "associationId": found[0]["associationId"]}


def tags_of(pairs: list[Mapping] | Mapping | None) -> dict[str, str]:
    """Give tags as a dictionary; IAM and S3 write them as pairs."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    return {pair["Key"]: pair["Value"] for pair in pairs or []}


def pairs_of(tags: Mapping[str, str]) -> list[dict]:
    """Give tags as IAM and S3 want them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


@dataclass
class Plan:
    """What a run would do.

    Attributes:
        writes: in order.
        problems: what is in the way; with any, nothing is written.
        notices: what the operator should know.
    """

    writes: list[Write] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class Planner:
    """Compares what is wanted with what is there.

    Args:
        account: where.
        options: of the action ``modelyard.core.aws``.
    """

    def __init__(self, account: Account, options: Mapping) -> None:
        self.account = account
        self.options = options
        self.plan = Plan()
        self.sid = aws.sid(options["cluster_name"], options["cluster_account_id"], options["region"])
        self.policy_name = aws.policy_name(options["cluster_name"])
        self.tag = aws.cluster_tag(options["cluster_name"])
        self.tags = aws.own_tags(options["cluster_name"], options["tags"])
        self.present = options["state"] == "present"
        self.issuer = options["oidc_issuer"]

    def make(self) -> Plan:
        """Read everything and work out the writes; sends no write.

        Raises:
            Refused: the inputs are wrong, or AWS holds what is in the way.
            AwsError: a read fails.
        """
        problems = aws.check(self.options) + self._check_identity()
        if problems:
            raise Refused(problems)
        if not self.issuer:
            self.issuer = self._issuer() if self.present else self._issuer_of_old()
        steps = [self._buckets, self._provider, self._roles, self._associations]
        # Access ends before what it leads to.
        for step in steps if self.present else reversed(steps):
            step()
        if self.plan.problems:
            raise Refused(self.plan.problems)
        return self.plan

    def _check_identity(self) -> list[str]:
        wanted = self.options["account_id"]
        if self.account.id != wanted:
            return [
                f"the AWS credentials lead to account {self.account.id} ({self.account.caller}), but irsa_account_id is {wanted}: "
                "give the job the credential of that account"
            ]
        if self.account.partition != self.options["partition"]:
            return [
                f"the AWS credentials lead to the partition {self.account.partition}, but platform_aws_partition is "
                f"{self.options['partition']}"
            ]
        return []

    # --- The cluster ----------------------------------------------------------------------------

    def _issuer(self) -> str:
        if self.options["account_id"] != self.options["cluster_account_id"]:
            raise Refused(
                [
                    f"irsa_oidc_issuer is empty: account {self.options['account_id']} can't ask EKS for the issuer of a cluster in "
                    f"account {self.options['cluster_account_id']}; set it (aws eks describe-cluster --query cluster.identity.oidc.issuer)"
                ]
            )
        name = self.options["eks_cluster_name"]
        found = self.account.find("eks", "describe_cluster", name=name)
        if found is None:
            hint = "set irsa_eks_cluster_name, or irsa_oidc_issuer"
            raise Refused(
                [f"EKS has no cluster {name!r} in {self.options['region']} of account {self.account.id}: {hint}"]
            )
        cluster = found["cluster"]
        server = self.options["api_server"].rstrip("/").lower()
        if ".eks.amazonaws.com" in server and server != str(cluster.get("endpoint", "")).rstrip("/").lower():
            allowed = "the roles would trust another cluster than the one that the inventory means"
            raise Refused(
                [
                    f"platform_api_server is {server}, but the EKS cluster {name!r} has {cluster.get('endpoint')}: {allowed}"
                ]
            )
        issuer = cluster.get("identity", {}).get("oidc", {}).get("issuer", "")
        if not issuer:
            raise Refused([f"the EKS cluster {name!r} has no OIDC issuer: set irsa_oidc_issuer"])
        return issuer

    def _issuer_of_old(self) -> str:
        """Find the issuer for a teardown: the cluster may be gone, and then the roles still say it."""
        try:
            return self._issuer()
        except Refused:
            for arn in self._role_arns():
                live = self.account.find("iam", "get_role", RoleName=aws.role_name_of(arn))
                for statement in iam.listed(live["Role"]["AssumeRolePolicyDocument"]["Statement"]) if live else []:
                    provider = statement.get("Principal", {}).get("Federated", "")
                    if statement.get("Sid") == self.sid and provider:
                        return f"https://{provider.partition('/')[2]}"
        self.plan.notices.append(
            "the cluster's OIDC issuer is not known, so its provider stays: set irsa_oidc_issuer to remove it"
        )
        return ""

    def _role_arns(self) -> list[str]:
        """The roles of this account that the inventory names, whether somebody carries them or not."""
        named = {*self.options["role_arns"], *(item["role_arn"] for item in self.options["service_accounts"])}
        return sorted(arn for arn in named if aws.account_of(arn) == self.account.id)

    def _cluster_arn(self) -> str:
        options = self.options
        return aws.cluster_arn(
            options["eks_cluster_name"], options["region"], options["cluster_account_id"], options["partition"]
        )

    # --- Ownership ------------------------------------------------------------------------------

    def _may_touch(self, kind: str, name: str, tags: Mapping[str, str]) -> bool:
        """Tell whether something that exists is ours, or may become so; note it where not."""
        if aws.is_ours(tags):
            return True
        if name in self.options["adopt"]:
            return True
        self.plan.problems.append(
            f"{kind} {name} exists and is not ours (no tag {aws.MANAGED_BY[0]}={aws.MANAGED_BY[1]}): "
            f"add {name!r} to irsa_adopt to take it over, or choose another name"
        )
        return False

    def _missing_tags(self, live: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in self.tags.items() if live.get(key) != value}

    # --- The provider ---------------------------------------------------------------------------

    def _provider(self) -> None:
        if not self.issuer:
            return
        arn = aws.provider_arn(self.issuer, self.account.id, self.account.partition)
        live = self.account.find("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        tags = tags_of((live or {}).get("Tags"))
        if self.present and not self.options["pod_identity"] and self._here():
            self._provider_present(arn, live, tags)
        elif live is not None and aws.is_ours(tags) and aws.clusters_of(tags) <= {self.options["cluster_name"]}:
            self._provider_absent(arn, live, tags)

    def _provider_present(self, arn: str, live: Mapping | None, tags: Mapping[str, str]) -> None:
        if live is None:
            arguments = {"Url": self.issuer, "ClientIDList": [aws.AUDIENCE], "Tags": pairs_of(self.tags)}
            self.plan.writes.append(
                Write(
                    "iam",
                    "create_open_id_connect_provider",
                    arguments,
                    f"create OIDC provider {arn}",
                    ("delete_open_id_connect_provider", {"OpenIDConnectProviderArn": arn}),
                    after={"url": self.issuer, "audiences": [aws.AUDIENCE], "tags": self.tags},
                )
            )
            return
        audiences = live.get("ClientIDList") or []
        adopted = aws.is_ours(tags) or arn in self.options["adopt"]
        if aws.AUDIENCE not in audiences:
            # Without the audience it is of no use, and it is not ours to change.
            if not adopted and not self._may_touch("OIDC provider", arn, tags):
                return
            arguments = {"OpenIDConnectProviderArn": arn, "ClientID": aws.AUDIENCE}
            self.plan.writes.append(
                Write(
                    "iam",
                    "add_client_id_to_open_id_connect_provider",
                    arguments,
                    f"change OIDC provider {arn}: audience {aws.AUDIENCE}",
                    ("remove_client_id_from_open_id_connect_provider", arguments),
                    before={"audiences": audiences},
                    after={"audiences": [*audiences, aws.AUDIENCE]},
                )
            )
        missing = self._missing_tags(tags) if adopted else {}
        if missing:
            self._tag(
                "open_id_connect_provider", {"OpenIDConnectProviderArn": arn}, f"OIDC provider {arn}", tags, missing
            )

    def _provider_absent(self, arn: str, live: Mapping, tags: Mapping[str, str]) -> None:
        again = {
            "Url": f"https://{live['Url'].removeprefix('https://')}",
            "ClientIDList": live.get("ClientIDList") or [],
            "ThumbprintList": live.get("ThumbprintList") or [],
            "Tags": pairs_of(tags),
        }
        self.plan.writes.append(
            Write(
                "iam",
                "delete_open_id_connect_provider",
                {"OpenIDConnectProviderArn": arn},
                f"delete OIDC provider {arn}",
                ("create_open_id_connect_provider", again),
                before={"url": live["Url"], "audiences": live.get("ClientIDList"), "tags": dict(tags)},
            )
        )

    def _tag(self, kind: str, key: dict, name: str, live: Mapping[str, str], missing: Mapping[str, str]) -> None:
        changed = {tag: live[tag] for tag in missing if tag in live}
        new = [tag for tag in missing if tag not in live]
        undo = (f"untag_{kind}", {**key, "TagKeys": new})
        for part, back in ((new, undo), (changed, (f"tag_{kind}", {**key, "Tags": pairs_of(changed)}))):
            if part:
                arguments = {**key, "Tags": pairs_of({tag: missing[tag] for tag in part})}
                after = {**live, **{tag: missing[tag] for tag in part}}
                self.plan.writes.append(Write("iam", f"tag_{kind}", arguments, f"tag {name}", back, dict(live), after))

    # --- Roles ----------------------------------------------------------------------------------

    def _here(self) -> list[Mapping]:
        """The ServiceAccounts that name a role of this account."""
        return [
            item for item in self.options["service_accounts"] if aws.account_of(item["role_arn"]) == self.account.id
        ]

    def _roles(self) -> None:
        wanted: dict[str, list[Mapping]] = {}
        for item in self.options["service_accounts"]:
            if aws.account_of(item["role_arn"]) == self.account.id:
                wanted.setdefault(item["role_arn"], []).append(item)
            else:
                account = aws.account_of(item["role_arn"])
                self.plan.notices.append(
                    f"{item['role_arn']} is in account {account}: run this playbook with the credential of that account too, "
                    f"with -e irsa_account_id={account}"
                )
        # A role that nobody carries any more loses this cluster.
        for arn in self._role_arns():
            carriers = wanted.get(arn, []) if self.present else []
            live = self.account.find("iam", "get_role", RoleName=aws.role_name_of(arn))
            if carriers:
                self._role_present(arn, carriers, live["Role"] if live else None)
            elif live:
                self._role_absent(arn, live["Role"])

    def _statement(self, carriers: list[Mapping]) -> dict:
        if self.options["pod_identity"]:
            accounts = [(item["namespace"], item["name"]) for item in carriers]
            return aws.pod_identity_statement(self.sid, self._cluster_arn(), accounts)
        provider = aws.provider_arn(self.issuer, self.account.id, self.account.partition)
        subjects = [aws.subject(item["namespace"], item["name"]) for item in carriers]
        return aws.web_identity_statement(self.sid, provider, subjects)

    def _role_present(self, arn: str, carriers: list[Mapping], live: Mapping | None) -> None:
        name = aws.role_name_of(arn)
        access = [entry for item in carriers for entry in item["access"]]
        policy = aws.permissions(access, self.account.id, self.account.partition)
        trust, foreign = aws.merge_trust(live and live["AssumeRolePolicyDocument"], self.sid, self._statement(carriers))
        self._check_size(arn, "trust policy", trust, "AssumeRolePolicySizeQuota")
        self._check_size(arn, f"policy {self.policy_name}", policy, "RolePolicySizeQuota")
        if live is None:
            self._create_role(arn, trust, policy)
            return
        if live["Arn"] != arn:
            self.plan.problems.append(
                f"role {name} is {live['Arn']}, but the ServiceAccounts name {arn}: set platform_irsa_role_path to its path"
            )
            return
        tags = tags_of(live.get("Tags"))
        if not self._may_touch("role", name, tags):
            return
        if foreign:
            sids = ", ".join(str(item.get("Sid") or "one without a Sid") for item in foreign)
            self.plan.notices.append(
                f"role {name}: its trust policy had statements that no cluster here made, and loses them: {sids}"
            )
        self._note_other_policies(name)
        missing = self._missing_tags(tags)
        if missing:
            self._tag("role", {"RoleName": name}, f"role {name}", tags, missing)
        self._role_limits(name, live)
        # The policy before the trust: who comes to be trusted finds the right one.
        self._put_policy(name, policy)
        if not aws.same(live["AssumeRolePolicyDocument"], trust):
            self._put_trust(name, live["AssumeRolePolicyDocument"], trust)

    def _check_size(self, arn: str, what: str, document: Mapping, quota: str) -> None:
        """Compare a document's size without whitespace with IAM's quota; an account's own is asked for what exceeds the default."""
        size = len(json.dumps(document, separators=(",", ":")))
        if size <= QUOTAS[quota]:
            return
        limit = self.account.call("iam", "get_account_summary")["SummaryMap"][quota]
        if size > limit:
            hint = "give each cluster a role of its own ({{ platform_cluster_name }} in the role's name)"
            self.plan.problems.append(f"the {what} of {arn} has {size} characters, and IAM takes {limit}: {hint}")

    def _create_role(self, arn: str, trust: Mapping, policy: Mapping) -> None:
        name = aws.role_name_of(arn)
        arguments = {
            "RoleName": name,
            "Path": aws.role_path_of(arn),
            "AssumeRolePolicyDocument": json.dumps(trust),
            "MaxSessionDuration": self.options["max_session_seconds"],
            "Tags": pairs_of(self.tags),
        }
        if self.options["permissions_boundary"]:
            arguments["PermissionsBoundary"] = self.options["permissions_boundary"]
        # It has no rights until its policy is there.
        shown = {**arguments, "AssumeRolePolicyDocument": trust, "Tags": self.tags}
        create = Write(
            "iam", "create_role", arguments, f"create role {arn}", ("delete_role", {"RoleName": name}), after=shown
        )
        self.plan.writes.append(create)
        self._write_policy(name, None, policy)

    def _role_limits(self, name: str, live: Mapping) -> None:
        wanted, found = self.options["max_session_seconds"], live.get("MaxSessionDuration", 3600)
        if wanted != found:
            keep = {"RoleName": name, "Description": live.get("Description", "")}
            self.plan.writes.append(
                Write(
                    "iam",
                    "update_role",
                    {**keep, "MaxSessionDuration": wanted},
                    f"change role {name}: sessions of {wanted} s",
                    ("update_role", {**keep, "MaxSessionDuration": found}),
                    before={"MaxSessionDuration": found},
                    after={"MaxSessionDuration": wanted},
                )
            )
        boundary = self.options["permissions_boundary"]
        before = (live.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
        if boundary == before:
            return
        put = ("put_role_permissions_boundary", {"RoleName": name, "PermissionsBoundary": boundary})
        back = ("put_role_permissions_boundary", {"RoleName": name, "PermissionsBoundary": before})
        gone = ("delete_role_permissions_boundary", {"RoleName": name})
        operation, arguments = put if boundary else gone
        self.plan.writes.append(
            Write(
                "iam",
                operation,
                arguments,
                f"change role {name}: permissions boundary {boundary or 'none'}",
                back if before else gone,
                before={"PermissionsBoundary": before},
                after={"PermissionsBoundary": boundary},
            )
        )

    def _put_policy(self, name: str, policy: Mapping) -> None:
        live = self.account.find("iam", "get_role_policy", RoleName=name, PolicyName=self.policy_name)
        before = live["PolicyDocument"] if live else None
        if before is None or not aws.same(before, policy):
            self._write_policy(name, before, policy)

    def _write_policy(self, name: str, before: Mapping | None, policy: Mapping) -> None:
        key = {"RoleName": name, "PolicyName": self.policy_name}
        undo = (
            ("put_role_policy", {**key, "PolicyDocument": json.dumps(before)})
            if before
            else ("delete_role_policy", key)
        )
        self.plan.writes.append(
            Write(
                "iam",
                "put_role_policy",
                {**key, "PolicyDocument": json.dumps(policy)},
                f"{'change' if before else 'create'} policy {self.policy_name} of role {name}",
                undo,
                before=before,
                after=policy,
            )
        )

    def _put_trust(self, name: str, before: Mapping, trust: Mapping) -> None:
        self.plan.writes.append(
            Write(
                "iam",
                "update_assume_role_policy",
                {"RoleName": name, "PolicyDocument": json.dumps(trust)},
                f"change trust policy of role {name}",
                ("update_assume_role_policy", {"RoleName": name, "PolicyDocument": json.dumps(before)}),
                before=before,
                after=trust,
            )
        )

    def _other_policies(self, name: str) -> list[str]:
        inline = self.account.pages("iam", "list_role_policies", "PolicyNames", RoleName=name)
        attached = self.account.pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        prefix = aws.policy_name("")
        return [item for item in inline if not item.startswith(prefix)] + [item["PolicyArn"] for item in attached]

    def _note_other_policies(self, name: str) -> None:
        others = self._other_policies(name)
        if others:
            self.plan.notices.append(
                f"role {name} has policies that are not ours, and are left: {', '.join(others)}. What they allow, it may do too"
            )

    def _role_absent(self, arn: str, live: Mapping) -> None:
        name = aws.role_name_of(arn)
        tags = tags_of(live.get("Tags"))
        trust = live["AssumeRolePolicyDocument"]
        rest, _ = aws.merge_trust(trust, self.sid, None)
        if not aws.is_ours(tags) or live["Arn"] != arn or self.tag not in tags:
            return
        policy = self.account.find("iam", "get_role_policy", RoleName=name, PolicyName=self.policy_name)
        sharing = aws.clusters_of(tags) - {self.options["cluster_name"]}
        if sharing and not rest["Statement"]:
            self.plan.problems.append(
                f"role {name} is shared with {', '.join(sorted(sharing))}, but its trust policy has no statement of theirs: "
                "run this playbook for them first"
            )
            return
        if sharing:
            if not aws.same(trust, rest):
                self._put_trust(name, trust, rest)
            self._delete_policy(name, policy)
            key = {"RoleName": name}
            self.plan.writes.append(
                Write(
                    "iam",
                    "untag_role",
                    {**key, "TagKeys": [self.tag]},
                    f"untag role {name}",
                    ("tag_role", {**key, "Tags": pairs_of({self.tag: tags[self.tag]})}),
                    before=tags,
                    after={tag: value for tag, value in tags.items() if tag != self.tag},
                )
            )
            return
        others = self._other_policies(name)
        if others:
            self.plan.problems.append(
                f"role {name} has policies that are not ours, so it can't be deleted: detach them first: {', '.join(others)}"
            )
            return
        self._delete_policy(name, policy)
        again = {
            "RoleName": name,
            "Path": live["Path"],
            "AssumeRolePolicyDocument": json.dumps(trust),
            "MaxSessionDuration": live.get("MaxSessionDuration", 3600),
            "Tags": pairs_of(tags),
        }
        boundary = (live.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
        if boundary:
            again["PermissionsBoundary"] = boundary
        self.plan.writes.append(
            Write("iam", "delete_role", {"RoleName": name}, f"delete role {arn}", ("create_role", again), before=trust)
        )

    def _delete_policy(self, name: str, policy: Mapping | None) -> None:
        if policy is None:
            return
        key = {"RoleName": name, "PolicyName": self.policy_name}
        self.plan.writes.append(
            Write(
                "iam",
                "delete_role_policy",
                key,
                f"delete policy {self.policy_name} of role {name}",
                ("put_role_policy", {**key, "PolicyDocument": json.dumps(policy["PolicyDocument"])}),
                before=policy["PolicyDocument"],
            )
        )

    # --- EKS Pod Identity -----------------------------------------------------------------------

    def _associations(self) -> None:
        if self.options["account_id"] != self.options["cluster_account_id"]:
            return
        wanted = {}
        if self.present and self.options["pod_identity"]:
            wanted = {(item["namespace"], item["name"]): item["role_arn"] for item in self._here()}
        cluster = {"clusterName": self.options["eks_cluster_name"]}
        live = live_associations(self.account, self.options["eks_cluster_name"], self.options["namespace"])
        for (namespace, name), role in sorted(wanted.items()):
            found = live.get((namespace, name))
            if found is None:
                self._create_association(cluster, namespace, name, role)
            elif found["roleArn"] != role and self._may_touch(
                "Pod Identity association", f"{namespace}/{name}", found["tags"]
            ):
                key = {**cluster, "associationId": found["associationId"]}
                self.plan.writes.append(
                    Write(
                        "eks",
                        "update_pod_identity_association",
                        {**key, "roleArn": role},
                        f"change Pod Identity association of {namespace}/{name}",
                        ("update_pod_identity_association", {**key, "roleArn": found["roleArn"]}),
                        before={"roleArn": found["roleArn"]},
                        after={"roleArn": role},
                    )
                )
        for (namespace, name), found in sorted(live.items()):
            if (namespace, name) not in wanted and aws.is_ours(found["tags"]):
                again = {
                    "namespace": namespace,
                    "serviceAccount": name,
                    "roleArn": found["roleArn"],
                    "tags": found["tags"],
                }
                self.plan.writes.append(
                    Write(
                        "eks",
                        "delete_pod_identity_association",
                        {**cluster, "associationId": found["associationId"]},
                        f"delete Pod Identity association of {namespace}/{name}",
                        ("create_pod_identity_association", {**cluster, **again}),
                        before=again,
                    )
                )

    def _create_association(self, cluster: Mapping, namespace: str, name: str, role: str) -> None:
        arguments = {"namespace": namespace, "serviceAccount": name, "roleArn": role, "tags": self.tags}
        self.plan.writes.append(
            Write(
                "eks",
                "create_pod_identity_association",
                {**cluster, **arguments},
                f"create Pod Identity association of {namespace}/{name}",
                (DELETE_ASSOCIATION, {**cluster, "namespace": namespace, "serviceAccount": name}),
                after=arguments,
            )
        )

    # --- Buckets --------------------------------------------------------------------------------

    def _buckets(self) -> None:
        for name, settings in sorted(self.options["buckets"].items()):
            settings = settings or {}
            if (settings.get("account_id") or self.options["cluster_account_id"]) != self.account.id:
                continue
            owner = {"Bucket": name, "ExpectedBucketOwner": self.account.id}
            try:
                live = self.account.find("s3", "head_bucket", **owner)
            except AwsError as error:
                if error.code not in DENIED:
                    raise
                self.plan.problems.append(f"bucket {name}: {error}; or the bucket is another account's")
                continue
            if not self.present:
                if live is not None:
                    self._bucket_absent(name, owner)
                continue
            region = (live or {}).get("BucketRegion") or self.account.region
            if region != self.account.region:
                self.plan.problems.append(
                    f"irsa_buckets.{name}: the bucket is in {region}, and this run works in {self.account.region}: "
                    "manage it with a cluster of its region, or leave it out"
                )
                continue
            self._bucket_present(name, owner, live, settings)

    def _bucket_present(self, name: str, owner: dict, live: Mapping | None, settings: Mapping) -> None:
        tags = self._bucket_tags(owner) if live is not None else {}
        if live is None:
            arguments: dict[str, Any] = {"Bucket": name, "ObjectOwnership": "BucketOwnerEnforced"}
            if self.account.region != "us-east-1":
                arguments["CreateBucketConfiguration"] = {"LocationConstraint": self.account.region}
            self.plan.writes.append(
                Write(
                    "s3", "create_bucket", arguments, f"create bucket {name}", ("delete_bucket", owner), after=arguments
                )
            )
        elif not self._may_touch("bucket", name, tags):
            return
        read = self.account.find if live is not None else (lambda *_args, **_more: None)
        self._public_access(name, owner, read, live is None)
        missing = self._missing_tags(tags)
        if missing:
            new = {**tags, **missing}
            undo = (
                ("put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(tags)}})
                if tags
                else ("delete_bucket_tagging", {})
            )
            self._bucket_write(
                name, owner, "put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(new)}}, "tags", undo, live, tags, new
            )
        self._encryption(name, owner, read, live, settings.get("kms_key_arn") or "")
        status = (read("s3", "get_bucket_versioning", **owner) or {}).get("Status")
        if status != "Enabled":
            off, on = ({"VersioningConfiguration": {"Status": value}} for value in ("Suspended", "Enabled"))
            undo = ("put_bucket_versioning", off)
            self._bucket_write(
                name,
                owner,
                "put_bucket_versioning",
                on,
                "versioning",
                undo,
                live,
                {"Status": status},
                {"Status": "Enabled"},
            )
        self._lifecycle(name, owner, read, live, settings)
        found = read("s3", "get_bucket_policy", **owner)
        before = json.loads(found["Policy"]) if found else None
        policy = aws.merge_bucket_policy(before, aws.tls_only(name, self.account.partition))
        if before is None or not aws.same(before, policy):
            undo = ("put_bucket_policy", {"Policy": json.dumps(before)}) if before else ("delete_bucket_policy", {})
            self._bucket_write(
                name, owner, "put_bucket_policy", {"Policy": json.dumps(policy)}, "policy", undo, live, before, policy
            )

    def _bucket_tags(self, owner: Mapping) -> dict[str, str]:
        return tags_of((self.account.find("s3", "get_bucket_tagging", **owner) or {}).get("TagSet"))

    def _bucket_write(
        self,
        name: str,
        owner: Mapping,
        operation: str,
        arguments: Mapping,
        what: str,
        undo: tuple[str, dict],
        live: Mapping | None,
        before: Any,
        after: Any,
    ) -> None:
        # A bucket that this run makes goes as a whole, closed as it is by then.
        back = (undo[0], {**owner, **undo[1]}) if live is not None else WITH_THE_BUCKET
        summary = f"{'change' if live is not None else 'set'} {what} of bucket {name}"
        self.plan.writes.append(Write("s3", operation, {**owner, **arguments}, summary, back, before, after))

    def _public_access(self, name: str, owner: Mapping, read: Any, new: bool) -> None:
        found = (read("s3", "get_public_access_block", **owner) or {}).get("PublicAccessBlockConfiguration")
        if found == aws.PUBLIC_ACCESS_BLOCK:
            return
        wanted = {"PublicAccessBlockConfiguration": aws.PUBLIC_ACCESS_BLOCK}
        undo = (
            ("put_public_access_block", {"PublicAccessBlockConfiguration": found})
            if found
            else ("delete_public_access_block", {})
        )
        self._bucket_write(
            name,
            owner,
            "put_public_access_block",
            wanted,
            "public access block",
            undo,
            None if new else {},
            found,
            aws.PUBLIC_ACCESS_BLOCK,
        )

    def _encryption(self, name: str, owner: Mapping, read: Any, live: Mapping | None, key: str) -> None:
        found = (read("s3", "get_bucket_encryption", **owner) or {}).get("ServerSideEncryptionConfiguration")
        wanted = aws.encryption(key)
        if aws.same_encryption(found, wanted):
            return
        undo = (
            ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": found})
            if found
            else ("delete_bucket_encryption", {})
        )
        arguments = {"ServerSideEncryptionConfiguration": wanted}
        self._bucket_write(name, owner, "put_bucket_encryption", arguments, "encryption", undo, live, found, wanted)

    def _lifecycle(self, name: str, owner: Mapping, read: Any, live: Mapping | None, settings: Mapping) -> None:
        found = read("s3", "get_bucket_lifecycle_configuration", **owner) or {}
        rules = found.get("Rules") or []
        wanted = aws.merge_lifecycle(
            rules, int(settings.get("noncurrent_days") or 30), int(settings.get("multipart_days") or 7)
        )
        if aws.same(rules, wanted):
            return
        size = "TransitionDefaultMinimumObjectSize"
        extra = {size: found[size]} if found.get(size) else {}
        undo = (
            ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": rules}, **extra})
            if rules
            else ("delete_bucket_lifecycle", {})
        )
        arguments = {"LifecycleConfiguration": {"Rules": wanted}, **extra}
        operation = "put_bucket_lifecycle_configuration"
        self._bucket_write(name, owner, operation, arguments, "lifecycle", undo, live, rules, wanted)

    def _bucket_absent(self, name: str, owner: dict) -> None:
        tags = self._bucket_tags(owner)
        if not aws.is_ours(tags) or self.tag not in tags:
            return
        if aws.clusters_of(tags) - {self.options["cluster_name"]}:
            rest = {key: value for key, value in tags.items() if key != self.tag}
            undo = ("put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(tags)}})
            self._bucket_write(
                name, owner, "put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(rest)}}, "tags", undo, {}, tags, rest
            )
            return
        # One page is enough to see that there is something.
        found = self.account.call("s3", "list_object_versions", **owner)
        held = {
            "versions": len(found.get("Versions") or []),
            "delete markers": len(found.get("DeleteMarkers") or []),
            "unfinished uploads": len(self.account.call("s3", "list_multipart_uploads", **owner).get("Uploads") or []),
        }
        if any(held.values()):
            more = "at least " if found.get("IsTruncated") else ""
            count = ", ".join(f"{number} {what}" for what, number in held.items() if number)
            self.plan.problems.append(
                f"bucket {name} holds {more}{count}: it is never emptied here. Empty it, or take it out of irsa_buckets to keep it"
            )
            return
        self.plan.writes.append(Write("s3", "delete_bucket", owner, f"delete bucket {name}", before=tags))


def live_associations(account: Account, cluster: str, namespace: str) -> dict[tuple[str, str], dict]:
    """Read the Pod Identity associations of a namespace, each with its tags, by namespace and ServiceAccount."""
    try:
        found = account.pages(
            "eks", "list_pod_identity_associations", "associations", clusterName=cluster, namespace=namespace
        )
    except AwsError as error:
        if error.code in ABSENT:  # not an EKS cluster, or one that is gone
            return {}
        raise
    keys = [{"clusterName": cluster, "associationId": item["associationId"]} for item in found]
    whole = [account.call("eks", "describe_pod_identity_association", **key)["association"] for key in keys]
    return {(item["namespace"], item["serviceAccount"]): {**item, "tags": item.get("tags") or {}} for item in whole}
