"""What counts as a volume that will not come, and what only takes its time."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import volumes


def events(*reasons_and_messages):
    return [dict(zip(("reason", "message"), pair, strict=True)) for pair in reasons_and_messages]


ASKED = ("ExternalProvisioning", "Waiting for a volume to be created")
TRIED = ("Provisioning", "External provisioner is provisioning volume")
DENIED = ("ProvisioningFailed", "rpc error: code = Internal desc = UnauthorizedOperation")
SLOW = ("ProvisioningFailed", "rpc error: code = DeadlineExceeded desc = context deadline exceeded")


@pytest.mark.parametrize(
    ("found", "text", "patience"),
    [
        ([], None, 0),
        ([("WaitForFirstConsumer", "waiting for first consumer")], None, 0),
        ([ASKED], "no provisioner has taken it up: Waiting", 120),
        ([ASKED, TRIED], None, 0),
        ([ASKED, TRIED, DENIED], "is not bound: rpc error: code = Internal desc = UnauthorizedOperation", 60),
        # A file system that takes minutes: the request goes on.
        ([ASKED, TRIED, SLOW], None, 0),
        ([ASKED, SLOW], None, 0),
        ([ASKED, TRIED, DENIED, SLOW], "is not bound: rpc error: code = Internal", 60),
    ],
    ids=str,
)
def test_a_claim_that_waits(found, text, patience):
    fault = volumes._unbound("c", {"metadata": {}, "status": {"phase": "Pending"}}, lambda: events(*found))
    assert (fault is None) == (text is None)
    if fault:
        assert text in fault.text
        assert fault.patience == patience


def test_a_claim_that_is_bound_is_no_fault():
    assert volumes._unbound("c", {"metadata": {}, "status": {"phase": "Bound"}}, lambda: events(DENIED)) is None


AFFINITY = "0/3 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity"


@pytest.mark.parametrize(
    ("message", "found", "is_fault"),
    [
        (AFFINITY, [], True),
        # The pod that this one replaces may still be there.
        (f"{AFFINITY}, 1 Insufficient nvidia.com/gpu.", [], False),
        (AFFINITY, [("TriggeredScaleUp", "pod triggered scale-up")], False),
        (AFFINITY, [("Nominated", "Pod should schedule on: nodeclaim/x")], False),
        (AFFINITY, [("NotTriggerScaleUp", "pod didn't trigger scale-up")], True),
    ],
    ids=str,
)
def test_a_volume_that_no_node_can_have(message, found, is_fault):
    assert bool(volumes._unreachable(message, events(*found))) == is_fault


@pytest.mark.parametrize(
    "message",
    [
        AFFINITY,
        "0/3 nodes are available: 1 node(s) had volume node affinity conflict.",
        "0/3 nodes are available: 1 node(s) had no available volume zone.",
        "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.",
        "0/3 nodes are available: 3 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
    ],
)
def test_what_the_scheduler_says_of_volumes_is_known(message):
    assert volumes.UNREACHABLE.search(message)
    assert not volumes.UNREACHABLE.search("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")


@pytest.mark.parametrize(
    ("found", "patience"),
    [
        ([], None),
        ([("FailedMount", 'MountVolume.SetUp failed for volume "tls" : secret "tls" not found')], 15),
        ([("FailedMount", 'MountVolume.SetUp failed for volume "a" : configmap "a" not found')], 15),
        ([("FailedMount", "references non-existent secret key: b")], 15),
        ([("FailedMount", "driver name ebs.csi.aws.com not found in the list of registered CSI drivers")], 120),
        ([("FailedAttachVolume", "AttachVolume.Attach failed for volume")], 120),
        ([("FailedAttachVolume", "Multi-Attach error: Volume is already exclusively attached to one node")], 420),
        ([("FailedAttachVolume", "Volume is already used by pod(s) vllm-1")], 420),
        ([("FailedAttachVolume", "no"), ("SuccessfulAttachVolume", "yes")], None),
        # Images are pulled when the volumes are there.
        ([("FailedMount", "no"), ("Pulling", "image")], None),
    ],
    ids=str,
)
def test_a_volume_that_is_not_mounted(found, patience):
    fault = volumes._unmounted(events(*found))
    assert (fault and fault.patience) == patience


def pod(phase="Pending", **state):
    return {"status": {"phase": phase, "containerStatuses": [{"state": state}] if state else []}}


@pytest.mark.parametrize(
    ("given", "creating"),
    [
        (pod(), True),
        (pod(waiting={"reason": "ContainerCreating"}), True),
        (pod(waiting={"reason": "PodInitializing"}), True),
        (pod(waiting={"reason": "ImagePullBackOff"}), False),
        (pod(running={}), False),
        (pod("Running"), False),
    ],
)
def test_a_pod_without_containers_yet(given, creating):
    assert volumes._is_creating(given) == creating
