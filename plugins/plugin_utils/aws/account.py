"""Speaks with one AWS account through boto3, and words what it refuses; never decides what is asked of it.

Credentials are boto3's own business (environment, profile, instance role) and never pass through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import partition_of
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
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
DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
# Where the action that an operation needs has another name (Service Authorization Reference).
ACTIONS = {
    "resourcegroupstaggingapi:GetResources": "tag:GetResources",
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
    "KeyId",
    "name",
)


class AwsError(Failure):
    """AWS did not do what it was asked, in words for the operator.

    Attributes:
        code: AWS's own code of the error, '' where there was no answer.
        answered: whether it is known that AWS did nothing: it said so, or was not asked.
    """

    def __init__(self, text: str, code: str = "", answered: bool = True) -> None:
        super().__init__(text)
        self.code = code
        self.answered = answered


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
        self.partition = partition_of(self.caller)

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
            raise AwsError(f"{service}: {error}{hint}", answered=not isinstance(error, HTTPClientError)) from None
        except ResponseParserError as error:
            raise AwsError(f"{service}: what answers is not AWS: {error}", answered=False) from None

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
        text = f"{action}{on} failed: {error.response['Error'].get('Message') or code}"
        # A server's own fault may come after the work.
        return AwsError(text, code, error.response["ResponseMetadata"].get("HTTPStatusCode", 400) < 500)
