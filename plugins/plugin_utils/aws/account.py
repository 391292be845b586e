"""Speaks with one AWS account through boto3; never decides what is asked of it.

Credentials are boto3's own business (environment, profile, instance role) and never pass through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import partition_of
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.refusals import ACTIONS, denied, failed, unanswered
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
        "NoSuchResourceException",
        "NoSuchTagSet",
        "ResourceNotFoundException",
        "ServerSideEncryptionConfigurationNotFoundError",
    }
)
DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
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
        bucket_region: where the bucket is that it is about; S3 tells it to whoever asks. '' where it did not.
    """

    def __init__(self, text: str, code: str = "", answered: bool = True, bucket_region: str = "") -> None:
        super().__init__(text)
        self.bucket_region = bucket_region
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
            AwsError: it fails; the text is AWS's own, or names the right that is missing, where that is why.
        """
        try:
            return getattr(self.client(service), operation)(**arguments)
        except ClientError as error:
            raise self._failed(service, operation, arguments, error) from None
        except (BotoCoreError, ResponseParserError) as error:
            raise _unanswered(service, error) from None

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
        except (BotoCoreError, ResponseParserError) as error:
            raise _unanswered(service, error) from None

    def _failed(self, service: str, operation: str, arguments: Mapping, error: ClientError) -> AwsError:
        found = error.response["Error"]
        # Of the role that a profile names, botocore asks STS first.
        mapped = self.client(service).meta.method_to_api_mapping[operation]
        asked = (service, mapped) if error.operation_name == mapped else ("sts", error.operation_name)
        name = ":".join(asked)
        subject = next((str(arguments[key]) for key in SUBJECTS if key in arguments), "") if asked[1] == mapped else ""
        code, message, action = found.get("Code", ""), str(found.get("Message") or ""), ACTIONS.get(name, name)
        if code in DENIED:
            region = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
            return AwsError(denied(action, subject, self.caller, message), code, bucket_region=region)
        text = failed(action, subject, self.region, code, message)
        # A server's own fault may come after the work.
        return AwsError(text, code, error.response["ResponseMetadata"].get("HTTPStatusCode", 400) < 500)


def _unanswered(service: str, error: Exception) -> AwsError:
    return AwsError(unanswered(service, error), answered=not isinstance(error, (HTTPClientError, ResponseParserError)))
