"""Carries out a plan in AWS, and takes back what it did where that fails or is interrupted; never decides what is wanted.

A request whose answer was lost may have done its work, so what it was to make is read back.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import worker
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ABSENT, DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import tags_of
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import DELETE_ASSOCIATION, Write
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.refusals import OF_OTHERS

# Seconds between attempts. IAM and S3 are eventually consistent: what this run has just made or deleted may be unknown, or in
# the way, for a while (IAM User Guide, "Changes that I make are not always immediately visible").
PAUSES = (1, 2, 4, 8, 15)
UNKNOWN_YET = ("does not exist", "Invalid principal")
BUSY = frozenset({"ConcurrentModification", "ConcurrentModificationException", "DeleteConflict", "OperationAborted"})
EXISTS = frozenset({"BucketAlreadyOwnedByYou", "EntityAlreadyExists", "ResourceInUseException"})


class Interrupted(AwsError):
    """A signal ended the run, and what it had done is taken back, or named.

    Attributes:
        signal: its number.
    """

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.signal = number


def written(account: Account, writes: list[Write]) -> None:
    """Do the writes, in order; when one fails, or SIGINT or SIGTERM ends the run, take back what was done, newest first.

    Raises:
        Interrupted: a signal ended the run.
        AwsError: a write failed. The text says whether everything is as it was.
    """
    done: list[Write] = []
    with worker.signals() as received:
        for write in writes:
            try:
                if received:
                    raise AwsError(f"{signal.Signals(received[0]).name} ended the run before this")
                _send(account, write.service, write.operation, write.arguments, _created(done), received)
            except AwsError as error:
                failed = _taken_back(account, done, write, error)
                raise (Interrupted(str(failed), received[0]) if received else failed) from None
            done.append(write)
        if received:
            raise Interrupted("everything is written, and stays: the signal came with the last request", received[0])


def _taken_back(account: Account, done: list[Write], write: Write, error: AwsError) -> AwsError:
    """Take back what was done, and word how that went."""
    making = write.operation.startswith("create_")
    # Of the others, taking back changes nothing where nothing was done.
    undone = done if error.answered or making else [*done, write]
    left = _undo(account, undone)
    renewed = [text for text in (_renewed(account, one) for one in undone) if text]
    unsure = "Whether AWS did it is not known: run again, which finds out" if making and not error.answered else ""
    if left:
        end = f"Not rolled back: {'; '.join(left)}"
    elif done:
        end = "Nothing else has changed: the earlier writes were rolled back"
    else:
        end = "" if unsure else "Nothing has changed"
    hint = write.hint if error.code in DENIED and not OF_OTHERS.search(str(error)) else ""
    end = ". ".join(text for text in (hint, unsure, end, *renewed) if text)
    return AwsError(f"{write.summary}: {error}. {end}.", error.code)


def _renewed(account: Account, write: Write) -> str:
    """Say that a role that was deleted and made again is another to those policies that name it.

    AWS keeps the role's id in place of its ARN in a policy's Principal (IAM User Guide, "AWS JSON policy elements: Principal").
    """
    if not write.role_id:
        return ""
    name = write.arguments["RoleName"]
    try:
        live = account.find("iam", "get_role", RoleName=name)
    except AwsError:
        live = None  # what is not taken back is said already
    new = live["Role"]["RoleId"] if live else write.role_id
    return (
        f"Role {name} has a new id, {new}: policies that name it as a principal (of buckets, of KMS keys, the trust of other "
        f"roles) hold the old one, {write.role_id}, and must be written again"
        if new != write.role_id
        else ""
    )


def _created(done: list[Write]) -> bool:
    return any(write.operation.startswith("create_") for write in done)


def _send(
    account: Account, service: str, operation: str, arguments: Mapping, fresh: bool, received: list[int] | None = None
) -> None:
    """Send a write, again while AWS does not know what this run made.

    Args:
        account: where.
        service: of AWS.
        operation: boto3's name of it.
        arguments: its.
        fresh: whether the run made something that this may be about.
        received: signals, which end the waiting.

    Raises:
        AwsError: it failed.
    """
    for pause in (*PAUSES, None):
        try:
            account.call(service, operation, **arguments)
        except AwsError as error:
            says = error.code not in DENIED and any(text in str(error) for text in UNKNOWN_YET)
            unknown = error.code in ABSENT or says
            if pause is not None and not received and (error.code in BUSY or (fresh and unknown)):
                time.sleep(pause)
                continue
            if not _is_done(account, operation, arguments, error):
                raise
        return


def _is_done(account: Account, operation: str, arguments: Mapping, error: AwsError) -> bool:
    """Tell whether a write that failed has left AWS as it was to: boto3 repeats a request whose answer was lost."""
    if operation.startswith("delete_"):
        return error.code in ABSENT
    if operation not in MADE or (error.answered and error.code not in EXISTS):
        return False
    try:
        return MADE[operation](account, arguments)
    except AwsError:
        return False


def _role(account: Account, arguments: Mapping) -> bool:
    live = account.find("iam", "get_role", RoleName=arguments["RoleName"])
    return live is not None and (
        tags_of(live["Role"].get("Tags")) == tags_of(arguments["Tags"])
        and policies.same(live["Role"]["AssumeRolePolicyDocument"], json.loads(arguments["AssumeRolePolicyDocument"]))
    )


def _provider(account: Account, arguments: Mapping) -> bool:
    arn = f"arn:{account.partition}:iam::{account.id}:oidc-provider/{arguments['Url'].removeprefix('https://')}"
    live = account.find("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
    return live is not None and tags_of(live.get("Tags")) == tags_of(arguments["Tags"])


def _bucket(account: Account, arguments: Mapping) -> bool:
    owner = {"Bucket": arguments["Bucket"], "ExpectedBucketOwner": account.id}
    if account.find("s3", "head_bucket", **owner) is None:
        return False
    tags = (account.find("s3", "get_bucket_tagging", **owner) or {}).get("TagSet")
    return tags_of(tags) == tags_of(arguments["CreateBucketConfiguration"]["Tags"])


def _association(account: Account, arguments: Mapping) -> bool:
    key = {name: arguments[name] for name in ("clusterName", "namespace", "serviceAccount")}
    found = account.call("eks", "list_pod_identity_associations", **key)["associations"]
    if not found:
        return False
    one = {"clusterName": key["clusterName"], "associationId": found[0]["associationId"]}
    live = account.call("eks", "describe_pod_identity_association", **one)["association"]
    return live["roleArn"] == arguments["roleArn"] and live.get("tags") == arguments["tags"]


# How to tell whether there is what a request was to make, and that it was this request, or a repetition of it.
MADE: dict[str, Callable[[Account, Mapping], bool]] = {
    "create_bucket": _bucket,
    "create_open_id_connect_provider": _provider,
    "create_pod_identity_association": _association,
    "create_role": _role,
}


def _undo(account: Account, done: list[Write]) -> list[str]:
    left = []
    fresh = _created(done)
    for write in reversed(done):
        if write.undo is None:
            left.append(write.summary)
            continue
        operation, arguments = write.undo
        try:
            if operation == DELETE_ASSOCIATION and "associationId" not in arguments:
                arguments = _found(account, arguments)
            if operation and arguments:
                _send(account, write.service, operation, arguments, fresh)
        except AwsError as error:
            left.append(f"{write.summary} ({error})")
    return left


def _found(account: Account, arguments: Mapping) -> dict:
    """Find the association that was made: its id is known only by then."""
    found = account.call("eks", "list_pod_identity_associations", **arguments)["associations"]
    return {"clusterName": arguments["clusterName"], "associationId": found[0]["associationId"]} if found else {}
