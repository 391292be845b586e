"""What a pod, a claim and an account name."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import references


def named(item):
    """{kind: names, with the key that is wanted} of what an object names."""
    found = {}
    for one in references.of({"metadata": {"namespace": "here"}, **item}):
        place = f"{one.namespace}/" if one.namespace else ""
        found.setdefault(one.kind, set()).add(f"{place}{one.name}" + (f"[{one.key}]" if one.key else ""))
    return found


def deployment(**pod):
    spec = {"template": {"spec": {"containers": [{"name": "c"}], **pod}}}
    return {"kind": "Deployment", "spec": spec}


def variable(**source):
    return {"containers": [], "initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": source}]}]}


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        ({}, {}),
        ({"serviceAccountName": "default"}, {}),
        ({"serviceAccountName": "a"}, {"ServiceAccount": {"here/a"}}),
        ({"nodeName": "n"}, {"Node": {"n"}}),
        (
            {"resourceClaims": [{"name": "g", "resourceClaimName": "one"}, {"resourceClaimTemplateName": "two"}]},
            {"ResourceClaim": {"here/one"}, "ResourceClaimTemplate": {"here/two"}},
        ),
        (variable(secretKeyRef={"name": "s", "key": "k"}), {"Secret": {"here/s[k]"}}),
        (variable(configMapKeyRef={"name": "m", "key": "k"}), {"ConfigMap": {"here/m[k]"}}),
        (variable(secretKeyRef={"name": "s", "key": "k", "optional": True}), {}),
        (variable(fieldRef={"fieldPath": "metadata.name"}), {}),
        ({"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}, {"Secret": {"here/s"}}),
    ],
    ids=str,
)
def test_of_a_pod(pod, found):
    assert named(deployment(**pod)) == found


@pytest.mark.parametrize(
    ("volume", "found"),
    [
        ({"emptyDir": {}}, {}),
        ({"secret": {"secretName": "s"}}, {"Secret": {"here/s"}}),
        ({"secret": {"secretName": "s", "optional": True}}, {}),
        (
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "a"}, {"key": "b", "path": "b"}]}},
            {"ConfigMap": {"here/m[a]", "here/m[b]"}},
        ),
        (
            {
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "t"}},
                        {"secret": {"name": "s", "items": [{"key": "a", "path": "a"}]}},
                        {"clusterTrustBundle": {"name": "b", "path": "b"}},
                        {"clusterTrustBundle": {"name": "c", "path": "c", "optional": True}},
                        {"clusterTrustBundle": {"signerName": "x", "path": "d"}},
                    ]
                }
            },
            {"Secret": {"here/s[a]"}, "ClusterTrustBundle": {"b"}},
        ),
        ({"persistentVolumeClaim": {"claimName": "c"}}, {"PersistentVolumeClaim": {"here/c"}}),
        ({"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}}, {"StorageClass": {"gp3"}}),
        ({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, {"StorageClass": {""}}),
        (
            {"csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}},
            {"CSIDriver": {"d"}, "Secret": {"here/s"}},
        ),
        (
            {"csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "p"}}},
            {"CSIDriver": {"secrets-store.csi.k8s.io"}, "SecretProviderClass": {"here/p"}},
        ),
        ({"iscsi": {"secretRef": {"name": "s"}}}, {"Secret": {"here/s"}}),
        ({"azureFile": {"secretName": "s"}}, {"Secret": {"here/s"}}),
    ],
    ids=str,
)
def test_of_a_volume(volume, found):
    assert named(deployment(volumes=[{"name": "v", **volume}])) == found


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"storageClassName": "gp3"}, {"StorageClass": {"gp3"}}),
        # The default class; and none at all, so that only a volume made by hand will do.
        ({}, {"StorageClass": {""}}),
        ({"storageClassName": ""}, {"PersistentVolume": {""}}),
        ({"storageClassName": "gp3", "volumeName": "v"}, {"PersistentVolume": {"v"}}),
        (
            {"storageClassName": "gp3", "volumeAttributesClassName": "fast"},
            {"StorageClass": {"gp3"}, "VolumeAttributesClass": {"fast"}},
        ),
        (
            {"volumeName": "v", "dataSource": {"kind": "VolumeSnapshot", "name": "s"}},
            {"PersistentVolume": {"v"}, "VolumeSnapshot": {"here/s"}},
        ),
    ],
    ids=str,
)
def test_of_a_claim(spec, found):
    assert named({"kind": "PersistentVolumeClaim", "spec": spec}) == found


def test_a_pull_secret_is_not_needed():
    account = {"kind": "ServiceAccount", "metadata": {"namespace": "here"}, "imagePullSecrets": [{"name": "s"}]}
    assert [(one.name, one.needed) for one in references.of(account)] == [("s", False)]


@pytest.mark.parametrize(
    "item",
    [
        {
            "kind": "CronJob",
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [], "nodeName": "n"}}}}},
        },
        {"kind": "Pod", "spec": {"containers": [], "nodeName": "n"}},
        {"kind": "StatefulSet", "spec": {"template": {"spec": {"containers": [], "nodeName": "n"}}}},
    ],
    ids=lambda item: item["kind"],
)
def test_of_other_workloads(item):
    assert named(item) == {"Node": {"n"}}


def test_what_has_no_pods_names_nothing():
    for item in ({"kind": "ConfigMap", "data": {}}, {"kind": "ApplicationSet", "spec": {"template": {"spec": {}}}}):
        assert named(item) == {}
