"""Where the variables of the AWS side are set, in messages about what was computed from them."""

import pytest
from ansible._internal._datatag._tags import Origin
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import places, specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import DEFAULT
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs


def at(line, value):
    return Origin(path="/inventory/hosts.yml", line_num=line).tag(value)


@pytest.fixture(scope="module")
def known():
    given = {
        "irsa_vllm_access": [{"bucket": at(3, "s3://x"), "prefixes": []}],
        "irsa_buckets": {at(5, "models"): None},
        "platform_aws_account_id": at(7, "1"),
        "vllm_profiles": {"chat": {"access": [{"bucket": at(9, "b")}], "image": at(10, "i")}},
        "vllm_env": {"HF_TOKEN": at(11, "hush")},
    }
    return places.of(Inputs(specs.load(), given, lambda value: value))


@pytest.mark.parametrize(
    ("text", "added"),
    [
        # A variable by its present name, though it was set by a former one.
        ("vllm_access[0].bucket is 's3://x': must be", " (set at /inventory/hosts.yml:3)"),
        # Of what knows no place, that of what holds it.
        ("irsa_buckets.models.kms_key_arn is 'x': must be", " (set at /inventory/hosts.yml:5)"),
        ("vllm_profiles.chat.access[0].bucket is 'b': must be", " (set at /inventory/hosts.yml:9)"),
        ("irsa_tags.a is 'x': must", f" ({DEFAULT})"),
        # One that follows another is set where that is.
        (
            "the credentials lead to account 2, but irsa_account_id is 1",
            " (irsa_account_id is set at /inventory/hosts.yml:7, platform_aws_account_id)",
        ),
        ("irsa_tags.a is 'x': must (set at /elsewhere:1)", ""),
        ("role r: add 'r' to irsa_adopt", ""),
        ("Deployment n/d is being deleted", ""),
    ],
)
def test_a_message_says_where_its_variable_is_set(known, text, added):
    assert places.located(text, known) == text + added


def test_what_the_aws_side_does_not_need_is_not_kept(known):
    assert not [path for path in known if path.startswith(("vllm_env", "vllm_profiles.chat.image"))]
