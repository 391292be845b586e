"""Role ARNs are composed in one place, and refused when AWS would."""

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelyard.core.plugins.filter.identity import role_arn

ACCOUNT = "123456789012"


@pytest.mark.parametrize(
    ("arguments", "arn"),
    [
        (("my-vllm-s3-read", ACCOUNT), f"arn:aws:iam::{ACCOUNT}:role/my-vllm-s3-read"),
        (("r", ACCOUNT, "aws-cn"), f"arn:aws-cn:iam::{ACCOUNT}:role/r"),
        (("r", ACCOUNT, "aws", "/team/ml/"), f"arn:aws:iam::{ACCOUNT}:role/team/ml/r"),
        (("r", int(ACCOUNT)), f"arn:aws:iam::{ACCOUNT}:role/r"),
        (("arn:aws-us-gov:iam::999999999999:role/p/r", ""), "arn:aws-us-gov:iam::999999999999:role/p/r"),
        (("", ""), ""),
    ],
)
def test_role_arn(arguments, arn):
    assert role_arn(*arguments) == arn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("r", ""), "platform_aws_account_id is '': must be the 12 digits"),
        (("r", "12345678901"), "must be the 12 digits"),
        (("a b", ACCOUNT), "must be up to 64 letters"),
        (("r" * 65, ACCOUNT), "must be up to 64 letters"),
        (("arn:aws:iam::1:role/x", ACCOUNT), "must be an ARN like"),
        (("arn:aws:iam::123456789012:user/x", ACCOUNT), "must be an ARN like"),
    ],
)
def test_role_arn_refuses(arguments, message):
    with pytest.raises(AnsibleFilterError, match=message):
        role_arn(*arguments)
