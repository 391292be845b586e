"""Every variable of every role, and every key below it, with values that it is not meant to have: refused by name, or rendered."""

import datetime
import itertools
import math
import random

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import check, formats
from rendering import DESCRIBED, host, rendered

ODD = [
    *(None, "", "text", 7, -1, 2**32 + 2, 10**30, 1.5, math.nan, True, [], {}, [None], ["text"], [[]], [{}]),
    *(
        {"text": None},
        {"text": "text"},
        {"text": []},
        {"text": {}},
        {1: 2},
        datetime.date(2026, 11, 28),
        "a\0b",
        "\uff14Gi",
    ),
]
VARIABLES = [
    (f"{role}_{key}", option)
    for role, said in DESCRIBED.items()
    for key, option in {**said.axis, **said.options}.items()
]
FACTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
# What there must be for the others to be used, and entries that exist.
ON = {
    "vllm_judge_variant": "judge",
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"text": {"uri": "s3://a/b", "implementation": "a.B"}},
}
ENTRY = {"platform_hardware_profiles": "gpu", "triton_profiles": "cpu", "vllm_profiles": "vllm"}
ENTRY |= {"vllm_judge_variants": "judge", "mlserver_profiles": "mlserver"}


def places(name, option, top=True):
    """Give every way to put a value into a variable: itself, and each key below."""
    yield lambda value: value
    for key, inner in (option.get("options") or {}).items():
        for place in places(name, inner, False):
            whole = (
                (lambda value, key=key, place=place: [{key: place(value)}])
                if option["type"] == "list"
                else (lambda value, key=key, place=place: {key: place(value)})
            )
            yield whole
    # The keys of a profile are the role's own variables, which have their turn.
    profile = name.endswith(("_profiles", "_variants")) and not name.startswith("platform")
    for key, inner in (option.get("entries") or {}).items() if top else ():
        for place in itertools.islice(places(name, inner, False), 1 if profile else None):
            yield lambda value, key=key, place=place: {ENTRY.get(name, "text"): {key: place(value)}}


def odd_values(name, option):
    """Give the odd values of a variable that its own check lets pass; what it refuses is refused by the variable's name."""
    passed = []
    for place, odd in itertools.product(places(name, option), ODD):
        value = place(odd)
        lines = check.check_value(name, value, option)
        assert all(line.startswith(name) for line in lines), lines
        if not lines:
            passed.append(value)
    return passed


def test_whatever_a_variable_is_given_it_is_refused_by_name_or_rendered():
    passed = {name: odd_values(name, option) for name, option in VARIABLES}
    assert sum(map(len, passed.values())) > 3000
    # To render each value alone takes minutes: here some of every variable, those of many together.
    chance = random.Random(13)
    for _ in range(4):
        given = {name: chance.choice(values) for name, values in passed.items() if values}
        # What is wrong with platform's variables, or with an Application, ends a rendering, so they have their own.
        groups = [{name for name in given if name.startswith(role)} for role in ("platform_", "argocd_apps_")]
        for names in (*groups, given.keys() - set().union(*groups)):
            rendered(off=True, **{**ON, **{name: given[name] for name in names}})


@pytest.mark.parametrize(("name", "option"), VARIABLES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_number_has_bounds(name, option):
    assert list(unbounded(name, option)) == []


def unbounded(path, option):
    """Find the numbers below an option that may be anything."""
    numbers = {option["type"], option.get("elements")} & {"int", "float"}
    if numbers:
        least, most = option.get("range", (1, 0))
        if not -formats.INT64 <= least <= most <= formats.INT64:
            yield path
    inner = {**(option.get("options") or {}), **({"*": option["values"]} if "values" in option else {})}
    inner |= option.get("entries") or {} if not path.endswith(("_profiles", "_variants")) or "platform" in path else {}
    for key, below in inner.items():
        yield from unbounded(f"{path}.{key}", below)
    # What is neither described nor of a known type is bounded by the form that it has.
    if (
        option["type"] == "raw"
        and option.get("format") not in ("quantity", "size", "pods")
        and "allocatable" not in path
        # Whose numbers are checked where they are read (tests/unit/test_model.py).
        and not path.endswith("model_config")
        # Read, and checked, where a plan is held against it (tests/unit/test_approval.py).
        and path != "apply_approved"
        # True, false or names, which are checked where they are read (tests/unit/test_awx_objects.py).
        and path != "awx_rotate"
        # Takes no number; has words too, and its bounds where it is read (tests/unit/test_arguments.py).
        and not path.endswith(("served_model_name", "max_model_len"))
    ):
        yield path


def problems(**given):
    """Say what is wrong with variables, without rendering."""
    inputs = host(**given)
    return [line for role in DESCRIBED for line in inputs.problems(role)]


INT32 = "must be a whole number from {} to 2147483647"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"vllm_replicas": 4294967298}, "vllm_replicas is 4294967298: " + INT32.format(0)),
        ({"vllm_replicas": 99999999999}, "vllm_replicas is 99999999999: " + INT32.format(0)),
        ({"vllm_gpu_memory_utilization": 10**400}, "must be a number from 0 to 1"),
        ({"vllm_replicas": "4294967298"}, "vllm_replicas is '4294967298': " + INT32.format(0)),
        ({"vllm_replicas": "\uff14"}, "vllm_replicas is '\uff14': must be a whole number"),
        ({"apply_lock_wait": -1}, "apply_lock_wait is -1: must be a whole number from 0 to 604800"),
        ({"apply_margin": "-5"}, "apply_margin is '-5': must be a whole number from 0 to 604800"),
        ({"vllm_http_port": 65536}, "vllm_http_port is 65536: must be a whole number from 1 to 65535"),
        ({"vllm_network_policy_mlflow_ports": [80, 65536]}, "mlflow_ports[1] is 65536: must be a whole number from 1"),
        ({"vllm_gpu_memory_utilization": math.nan}, "utilization is nan: must be a number from 0 to 1"),
        ({"vllm_gpu_memory_utilization": math.inf}, "utilization is inf: must be a number from 0 to 1"),
        ({"vllm_liveness_probe": {"periodSeconds": 2**32 + 1}}, "periodSeconds is 4294967297: " + INT32.format(1)),
        ({"triton_profiles": {"cpu": {"replicas": 2**31}}}, "triton_profiles.cpu.replicas is 2147483648: must be"),
        (
            {"vllm_resources": {"limits": {"memory": "99999Ei"}}},
            "limits.memory is '99999Ei': must be a Kubernetes quantity",
        ),
        ({"vllm_resources": {"limits": {"memory": "1e999999999"}}}, "memory is '1e999999999': must be a Kubernetes"),
        (
            {"vllm_resources": {"limits": {"memory": "\uff114Gi"}}},
            "limits.memory is '\uff114Gi': must be a Kubernetes quantity",
        ),
        ({"vllm_resources": {"limits": {"memory": 14}}}, "limits.memory is 14: must be 1Mi or more, and is 14 bytes"),
        ({"vllm_tmp_size": "500m"}, "vllm_tmp_size is '500m': must be 1Mi or more, and is 0.500 bytes"),
        ({"vllm_pdb_max_unavailable": 2**31}, "vllm_pdb_max_unavailable is 2147483648: must be a number of pods"),
        ({"vllm_pdb_max_unavailable": "101%"}, "vllm_pdb_max_unavailable is '101%': must be a number of pods"),
        ({"vllm_strategy": {"rollingUpdate": {"maxSurge": "x"}}}, "maxSurge is 'x': must be a number of pods or a"),
        (
            {"vllm_extra_volumes": [{"configMap": {"defaultMode": 2**32}}]},
            "configMap.defaultMode is 4294967296: must be",
        ),
        (
            {"vllm_pod_security_context": {"runAsUser": 2**63}},
            "runAsUser is 9223372036854775808: must be a whole number",
        ),
        ({"argocd_apps_sync_waves": {"vllm": 2**40}}, "argocd_apps_sync_waves.vllm is 1099511627776: must be a whole"),
        ({"argocd_apps_retry": {"limit": -2}}, "argocd_apps_retry.limit is -2: must be a whole number from -1"),
        ({"argocd_apps_extra": {"a": {"sync_wave": 2**40}}}, "argocd_apps_extra.a.sync_wave is 1099511627776: must be"),
        (
            {"mlserver_models": {"a": {"settings": {"max_batch_size": 2**64}}}},
            "max_batch_size is 18446744073709551616: must",
        ),
        # Texts
        ({"platform_cluster_name": 5}, "platform_cluster_name is 5: must be a text: put it in quotes"),
        ({"platform_namespace": 0o123}, "platform_namespace is 83: must be a text: put it in quotes"),
        ({"vllm_profiles": {123: {}}}, "vllm_profiles.123 is 123: the key must be a text: put it in quotes"),
        ({"vllm_profiles": {True: {}}}, "vllm_profiles.True is True: the key must be a text: put it in quotes"),
        ({"vllm_profiles": {"a\nb": {}}}, "vllm_profiles.a\nb is 'a\\nb': the key must be a DNS label"),
        (
            {"vllm_priority_class_name": "x\n      hostNetwork: true"},
            "priority_class_name is 'x\\n      hostNetwork: true': must",
        ),
        ({"vllm_cache": {"storage_class": "a\n  b: c"}}, "vllm_cache.storage_class is 'a\\n  b: c': must be a name"),
        ({"vllm_node_selector": {"a": "b\nc: d"}}, "vllm_node_selector.a is 'b\\nc: d': must be up to 63"),
        ({"vllm_tolerations": [{"key": "a\nb"}]}, "vllm_tolerations[0].key is 'a\\nb': must be NAME or DOMAIN/NAME"),
        ({"vllm_tolerations": [{"value": "a\nb"}]}, "vllm_tolerations[0].value is 'a\\nb': must be up to 63"),
        ({"vllm_env": {"": "hush"}}, "vllm_env. is '': the key must be a variable's name"),
        ({"vllm_env": {"a=b": "hush"}}, "vllm_env.a=b is 'a=b': the key must be a variable's name"),
        ({"vllm_env": {"A": "hush\0"}}, "vllm_env.A is (hidden): must not hold the character U+0000"),
        ({"vllm_env": {"A": "hush\x1b[31m"}}, "vllm_env.A is (hidden): must not hold the character U+001B"),
        ({"vllm_annotations": {"a": "b\0"}}, "vllm_annotations.a is 'b\\x00': must not hold the character U+0000"),
        ({"vllm_init_args": ["a\0"]}, "vllm_init_args[0] is 'a\\x00': must not hold the character U+0000"),
        (
            {"vllm_annotations": {"a": "b" * 300_000}},
            "vllm_annotations is (hidden): has 300001 bytes, and an object takes",
        ),
        ({"vllm_extra_args": {"": "x"}}, "vllm_extra_args. is '': the key must be a flag's name"),
        ({"vllm_extra_args": {"--": "x"}}, "vllm_extra_args.-- is '--': the key must be a flag's name"),
        ({"vllm_extra_args": {"a b": "x"}}, "vllm_extra_args.a b is 'a b': the key must be a flag's name"),
        ({"triton_extra_args": [""]}, "triton_extra_args[0] is '': must not be empty"),
        ({"irsa_workflow_role": "a\nb"}, "irsa_workflow_role is 'a\\nb': must be a name"),
        ({"vllm_topology_spread_constraints": [{}]}, "[0] is {}: needs maxSkew and topologyKey and whenUnsatisfiable"),
        ({"vllm_pod_security_context": {"runAsUser": "root"}}, "runAsUser is 'root': must be a whole number"),
        ({"vllm_security_context": {"capabilities": "ALL"}}, "capabilities is 'ALL': must be a dictionary"),
        ({"argocd_apps_path": "a\nb"}, "argocd_apps_path is 'a\\nb': must be one line"),
        ({"irsa_workflow_rules": [None]}, "irsa_workflow_rules[0] is None: must be a dictionary"),
        (
            {"vllm_extra_volumes": [{"a": datetime.date(2026, 1, 2)}]},
            "extra_volumes[0].a is datetime.date(2026, 1, 2): must",
        ),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_refused_before_anything_is_computed(given, told):
    lines = problems(**given)
    assert any(told in line for line in lines), [line[:300] for line in lines]
    assert len(lines) == 1, lines
    assert "hush" not in str(lines)


def test_a_number_that_python_does_not_write_is_refused_too():
    told = "is a number of thousands of digits: must be a"
    assert told in problems(vllm_replicas=10**5000)[0]
    assert told in problems(vllm_resources={"limits": {"memory": 10**5000}})[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"vllm_tolerations": [{"value": "a"}]},
            "vllm_tolerations.0 is {'value': 'a'}: needs a key, or operator Exists",
        ),
        (
            {"vllm_tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}]},
            "vllm_tolerations.0.tolerationSeconds is 5: needs effect NoExecute",
        ),
        (
            {"vllm_extra_env": [{"name": "a=b", "value": "hush"}]},
            "vllm_extra_env.0 is (hidden): must be a variable's name",
        ),
        (
            {"vllm_extra_env": [{"name": "A", "vlaue": "hush"}]},
            "vllm_extra_env.0 is (hidden): has vlaue, and a variable",
        ),
        (
            {"vllm_extra_env": [{"name": "A", "value": ["hush"]}]},
            "vllm_extra_env.0 is (hidden): must have a text as value",
        ),
        (
            {"vllm_network_policy_ingress_from": [{"namespace": ""}]},
            "from.0.namespace is '': must be a namespace's name",
        ),
        ({"vllm_extra_volumes": [{"name": ["x"]}]}, "vllm_extra_volumes.0.name is ['x']: must be a DNS label"),
        (
            {"vllm_extra_volumes": [{"name": "x"}]},
            "vllm_extra_volumes.0 is {'name': 'x'}: must have a name and one source",
        ),
        (
            {"vllm_extra_volume_mounts": [{"name": ["x"], "mountPath": "/x"}]},
            "vllm_extra_volume_mounts.0.name is ['x']: unknown",
        ),
        ({"vllm_extra_volume_mounts": [{"name": "tmp"}]}, "mounts.0.mountPath is None: must be an absolute path"),
        (
            {"vllm_extra_volume_mounts": [{"name": "tmp", "mountPath": "/tmp"}]},
            "mounts.0.mountPath is '/tmp': has a mount already",
        ),
        ({"vllm_extra_env": [{"name": "A", "value": "b", "valueFrom": {"a": "b"}}]}, "must have either a value or a"),
        (
            {"vllm_strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
            "vllm_strategy.rollingUpdate is {'maxSurge': 1}: belongs to the type RollingUpdate",
        ),
        (
            {"vllm_strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
            "one of the two must be above 0",
        ),
        ({"vllm_monitoring_interval": "0s"}, "vllm_monitoring_interval is '0s': must be a time such as 30s"),
        (
            {"platform_proxy": {"http_proxy": "http://a:99999"}},
            "platform_proxy.http_proxy is 'http://a:99999': must be a URL",
        ),
        (
            {"platform_proxy": {"http_proxy": "http://[::1"}},
            "platform_proxy.http_proxy is 'http://[::1': must be a URL",
        ),
        ({"platform_api_server": "https://a:65536"}, "platform_api_server is 'https://a:65536': must be a URL"),
        ({"platform_image_registry_mirrors": {"nvcr.io": None}}, "mirrors.nvcr.io is None: must be a text"),
        ({"argocd_apps_profiles": {"vllm": None}}, "argocd_apps_profiles.vllm is None: must be a list"),
        (
            {"vllm_model_facts": {**dict.fromkeys(FACTS, 10**8), "num_hidden_layers": 1000}, "vllm_model": "a/b"},
            "vllm_startup_seconds is None: the download would take",
        ),
        (
            {"vllm_annotations": {"a": "b" * 200_000}, "platform_extra_annotations": {"c": "d" * 200_000}},
            "Deployment vllm: its annotations (vllm_profiles.vllm, vllm_*, model_server_*, platform_*) have 4000",
        ),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_is_refused_when_it_is_computed(given, told):
    lines = rendered(("vllm",), **given)["problems"]
    assert any(told in line for line in lines), [line[:300] for line in lines]
    assert "hush" not in str(lines)


def test_a_message_says_where_a_null_or_a_computed_value_was_written():
    written = "vllm_patch:\n  spec:\n    template: # null\nvllm_drain_seconds: 500\nvllm_liveness_probe:\n  timeoutSeconds: 0\n"
    variables = DataLoader().load(written, file_name="/x/all.yml")
    assert rendered(("vllm",), vllm_patch=variables["vllm_patch"])["problems"] == [
        "vllm_patch.spec.template is None: a patch must leave spec.template.metadata.labels.app as it is: other objects, "
        "and later runs, go by it (set at /x/all.yml:3)"
    ]
    assert "(set at /x/all.yml:6)" in rendered(vllm_liveness_probe=variables["vllm_liveness_probe"])["problems"][0]


def test_numbers_and_truths_as_text_are_numbers_and_truths_also_below():
    found = rendered(
        ("vllm",),
        vllm_liveness_probe={"periodSeconds": "7"},
        vllm_cache={"type": "claim", "size": 8 * 2**30, "create": "no"},
        vllm_tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "5"}],
        vllm_extra_env=[{"name": "A", "value": 5}],
        platform_hardware_profiles={"gpu-vllm": {"taints": [{"key": "a", "value": 5, "effect": "NoSchedule"}]}},
    )
    assert len(found["problems"]) == 1  # a text, as a label's
    assert "taints[0].value is 5: must be a text: put it in quotes" in found["problems"][0]
    found = rendered(
        ("vllm",),
        vllm_liveness_probe={"periodSeconds": "7"},
        vllm_cache={"type": "claim", "size": 8 * 2**30, "create": "no"},
        vllm_tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": "5"}],
        vllm_extra_env=[{"name": "A", "value": 5}],
    )
    assert found["problems"] == []
    objects = {item["kind"]: item for part in found["parts"] for item in part["objects"]}
    assert "PersistentVolumeClaim" not in objects
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["livenessProbe"]["periodSeconds"] == 7
    assert pod["tolerations"][-1]["tolerationSeconds"] == 5
    assert {"name": "A", "value": "5"} in container["env"]


def test_a_null_in_labels_removes_a_key_and_is_rendered_nowhere():
    found = rendered(
        platform_extra_labels={"a": None, "b": "c"},
        platform_monitoring_labels={"a": None},
        platform_namespace_labels={"a": None},
        argocd_apps_labels={"a": None},
        irsa_workflow_annotations={"a": None},
        platform_hardware_profiles={"gpu-vllm": {"labels": {"workload": None}}},
        vllm_network_policy_ingress_from=[{"namespace": "x", "pod_labels": {"a": None}}],
    )
    assert found["problems"] == []

    def nulls(value, path):
        if isinstance(value, dict):
            return [found for key, item in value.items() for found in nulls(item, f"{path}.{key}")]
        if isinstance(value, list):
            return [found for item in value for found in nulls(item, path)]
        return [path] if value is None else []

    for part in found["parts"]:
        for item in part["objects"]:
            assert nulls(item, item["kind"]) == []
    assert found["namespaces"][0]["labels"] == {}
