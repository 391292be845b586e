"""Which Applications there are, what is in them, and whose each part is."""

import re

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd.applications import PART, credentials
from rendering import rendered

JUDGE = {"vllm_judge_variant": "judge"}
ALL = ("triton-inference-cpu", "triton-inference-gpu", "vllm-inference", "vllm-inference-judge", "ml-models-shared")
PARKED = {"group": "apps", "kind": "Deployment", "managedFieldsManagers": ["modelyard-park"]}
REPLICAS = {"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}
WAVE = "argocd.argoproj.io/sync-wave"


def compute(hosts=None, **variables):
    """Render the Applications of one cluster, by default with a judge."""
    return rendered(("argocd_apps",), others=hosts, **JUDGE | variables)


def objects(kind, hosts=None, **variables):
    found = compute(hosts, **variables)
    assert found["problems"] == []
    (part,) = found["parts"]
    return {item["metadata"]["name"]: item for item in part["objects"] if item["kind"] == kind}


def apps(**variables):
    return objects("Application", **variables)


def paths(**variables):
    return {name: app["spec"]["source"]["path"] for name, app in apps(**variables).items()}


def ignored(app):
    """Give what Argo CD leaves alone, beside the replicas of those who park and wake."""
    return [rule for rule in app["spec"].get("ignoreDifferences", []) if rule != PARKED]


def test_the_contract():
    assert paths() == {
        "triton-inference-cpu": "infra/k8s/triton/overlays/cpu",
        "triton-inference-gpu": "infra/k8s/triton/overlays/gpu",
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-judge": "infra/k8s/vllm/judge",
        "ml-models-shared": "infra/k8s/shared",
    }


def test_what_is_off_has_none():
    off = {"triton_enabled_profiles": ["cpu"], "vllm_judge_variant": "none", "irsa_workflow_enabled": False}
    assert list(paths(vllm_enabled=False, **off)) == ["triton-inference-cpu"]
    assert list(paths(vllm_enabled_profiles=[], **off)) == ["triton-inference-cpu"]


def test_an_application_can_be_left_out_or_added_without_its_server():
    chosen = {"triton": ["cpu"], "vllm": [], "vllm_judge": []}
    assert list(paths(argocd_apps_profiles=chosen, argocd_apps_shared=False)) == ["triton-inference-cpu"]
    # A role that is not named has those that are enabled.
    assert list(paths(argocd_apps_profiles={"vllm": []})) == sorted(set(ALL) - {"vllm-inference"})
    found = paths(vllm_judge_variant="none", argocd_apps_profiles={"vllm_judge": ["judge-large"]})
    assert found["vllm-inference-judge-large"] == "infra/k8s/vllm/judge-large"


def test_the_other_judge_and_profiles_of_ones_own():
    own = {"triton_enabled_profiles": ["l4"], "triton_profiles": {"l4": {"name": "triton-l4"}}}
    found = paths(vllm_judge_variant="judge-large", **own)
    assert found["vllm-inference-judge-large"] == "infra/k8s/vllm/judge-large"
    assert found["triton-inference-l4"] == "infra/k8s/triton/overlays/l4"
    assert "vllm-inference-judge" not in found


def test_each_vllm_server_has_an_application_of_its_own():
    found = apps(vllm_enabled_profiles=["vllm", "fast", "large"], vllm_profiles={"fast": {}, "large": {"name": "llm"}})
    assert {name: app["spec"]["source"]["path"] for name, app in found.items() if "vllm" in name} == {
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-fast": "infra/k8s/vllm/fast",
        "vllm-inference-large": "infra/k8s/vllm/large",
        "vllm-inference-judge": "infra/k8s/vllm/judge",
    }
    assert found["vllm-inference-fast"]["metadata"]["annotations"][PART] == "here/vllm-fast"
    assert found["vllm-inference-large"]["metadata"]["annotations"][PART] == "here/llm"


def test_the_manifests_settings():
    app = apps()["ml-models-shared"]
    assert app["spec"]["syncPolicy"] == {
        "automated": {"prune": True, "selfHeal": True},
        "syncOptions": ["ServerSideApply=true", "RespectIgnoreDifferences=true", "CreateNamespace=true"],
        "retry": {"limit": 5, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "3m"}},
    }
    assert app["spec"]["destination"] == {"namespace": "ml-models", "server": "https://kubernetes.default.svc"}
    assert "finalizers" not in app["metadata"]
    assert app["metadata"]["annotations"] == {PART: "here/shared", WAVE: "0"}


def test_the_judge_comes_last_unless_told_otherwise():
    def waves(**variables):
        return {name: app["metadata"]["annotations"][WAVE] for name, app in apps(**variables).items()}

    assert waves() == dict.fromkeys(ALL, "1") | {"ml-models-shared": "0", "vllm-inference-judge": "2"}
    own = waves(argocd_apps_sync_waves={"shared": -1, "triton": 0})
    assert own == waves() | {"ml-models-shared": "-1", "triton-inference-cpu": "0", "triton-inference-gpu": "0"}


def test_overrides_reach_one_application():
    own = {"sync_wave": 5, "finalizer": True, "automated": False, "destination_name": "prod", "target_revision": "v1"}
    found = apps(argocd_apps_overrides={"ml-models-shared": own})
    first = found.pop("ml-models-shared")
    assert first["metadata"]["annotations"][WAVE] == "5"
    assert first["metadata"]["finalizers"] == ["resources-finalizer.argocd.argoproj.io"]
    assert "automated" not in first["spec"]["syncPolicy"]
    assert first["spec"]["destination"] == {"namespace": "ml-models", "name": "prod"}
    for app in found.values():
        assert app["spec"]["source"]["targetRevision"] == "main"
        assert "finalizers" not in app["metadata"]


def test_a_renamed_and_a_further_one():
    own = {
        "argocd_apps_overrides": {"vllm-inference": {"name": "llm"}},
        "argocd_apps_extra": {"lab": {"path": "lab/k8s"}},
    }
    found = paths(**own)
    assert found["llm"] == "infra/k8s/vllm/base"
    assert found["lab"] == "lab/k8s"
    assert "vllm-inference" not in found


def test_settings_of_one_that_is_off_may_stay():
    off = {"vllm-inference-judge-large": {"sync_wave": 1}}
    assert "vllm-inference-judge-large" not in paths(argocd_apps_overrides=off)


# --- Whose a part is -------------------------------------------------------------------------------


def test_a_part_is_called_after_its_deployment_whichever_application_has_it():
    inventory = {
        "vllm_judge_variants": {"mine": {"name": "judge-b"}},
        "triton_profiles": {"l4": {"name": "triton-l4"}},
        "triton_enabled_profiles": ["cpu", "gpu", "l4"],
    }

    def part(judge="judge"):
        found = apps(vllm_judge_variant=judge, **inventory)
        return {name: app["metadata"]["annotations"][PART] for name, app in found.items()}

    assert part()["vllm-inference-judge"] == part("judge-large")["vllm-inference-judge-large"] == "here/judge-vllm"
    assert part("mine")["vllm-inference-mine"] == "here/judge-b"
    assert part()["triton-inference-gpu"] == "here/triton-inference-gpu"
    assert part()["triton-inference-l4"] == "here/triton-l4"
    assert part()["ml-models-shared"] == "here/shared"


def test_a_server_stays_wanted_when_only_its_application_is_off():
    def wanted(**variables):
        off = {"vllm_judge_variant": "none", "triton_enabled_profiles": ["cpu"], "argocd_apps_profiles": {"vllm": []}}
        return set(compute(**off, **variables)["wanted"])

    assert wanted() == {"here/shared", "here/triton-inference", "here/vllm"}
    assert wanted(vllm_enabled=False) == {"here/shared", "here/triton-inference"}


# --- What something else owns ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inventory", "name"),
    [
        ({"triton_profiles": {"gpu": {"autoscaled": True}}}, "triton-inference-gpu"),
        ({"vllm_autoscaled": True}, "vllm-inference"),
        ({"vllm_judge_variants": {"judge": {"autoscaled": "yes"}}}, "vllm-inference-judge"),
    ],
)
def test_an_autoscalers_replicas_are_left_alone(inventory, name):
    assert [key for key, app in apps(**inventory).items() if ignored(app) == [REPLICAS]] == [name]


def test_all_servers_may_be_autoscaled():
    found = apps(model_server_autoscaled=True, vllm_judge_autoscaled=False)
    assert {key for key, app in found.items() if ignored(app)} == set(ALL[:3])


def test_a_profile_can_take_its_replicas_back():
    found = apps(triton_autoscaled=True, triton_profiles={"cpu": {"autoscaled": False}})
    assert ignored(found["triton-inference-gpu"]) == [REPLICAS]
    assert ignored(found["triton-inference-cpu"]) == []


def test_who_wakes_a_parked_judge_keeps_its_replicas():
    found = apps(vllm_judge_parked=True, argocd_apps_parked_managers=["kubectl"])
    rule = {"group": "apps", "kind": "Deployment", "managedFieldsManagers": ["modelyard-park", "kubectl"]}
    assert ignored(found.pop("vllm-inference-judge")) == [rule]
    assert not any(ignored(app) for app in found.values())
    assert not any(ignored(app) for app in apps().values())


def test_who_parks_a_server_keeps_its_replicas():
    found = apps(vllm_autoscaled=True)
    servers = {name for name, app in found.items() if PARKED in app["spec"].get("ignoreDifferences", [])}
    assert servers == set(ALL) - {"vllm-inference", "ml-models-shared"}
    # Of a schedule the API server does not note that it made the replicas zero.
    scheduled = apps(vllm_schedule={"park": "0 20 * * *", "wake": "0 7 * * *"})["vllm-inference"]
    assert scheduled["spec"]["ignoreDifferences"] == [REPLICAS]


# --- Many clusters ---------------------------------------------------------------------------------

HOSTS = {
    "staging": {
        "argocd_apps_destination_server": "https://staging.example.com",
        "argocd_apps_path": "infra/staging/k8s",
        "triton_enabled_profiles": ["cpu"],
    },
    "production": {
        "argocd_apps_destination_name": "prod",
        "argocd_apps_path": "infra/production/k8s",
        "platform_namespace": "models",
        "vllm_judge_variant": "judge-large",
        "vllm_enabled": False,
    },
}
LIST = {"argocd_apps_generator": "list", "argocd_apps_hosts": list(HOSTS)}


def sets(hosts=None, **variables):
    return objects("ApplicationSet", hosts, **variables)


def elements(found, name):
    return {item["cluster"]: item for item in found[name]["spec"]["generators"][0]["list"]["elements"]}


def test_a_list_has_what_each_host_has():
    found = sets(HOSTS, **LIST)
    assert {name: list(elements(found, name)) for name in found} == {
        "triton-inference-cpu": ["staging", "production"],
        "triton-inference-gpu": ["production"],
        "vllm-inference": ["staging"],
        "vllm-inference-judge": ["production"],
        "ml-models-shared": ["staging", "production"],
    }
    assert elements(found, "vllm-inference-judge")["production"] == {
        "cluster": "production",
        "application": "production-vllm-inference-judge",
        "part": "production/judge-vllm",
        "path": "infra/production/k8s/vllm/judge-large",
        "server": "",
        "destination": "prod",
        "namespace": "models",
    }
    assert elements(found, "vllm-inference")["staging"]["server"] == "https://staging.example.com"


def test_a_list_has_each_hosts_vllm_servers():
    more = {"vllm_enabled_profiles": ["vllm", "fast"], "vllm_profiles": {"fast": {}}}
    hosts = {**HOSTS, "staging": HOSTS["staging"] | more}
    found = sets(hosts, **LIST)
    assert list(elements(found, "vllm-inference-fast")) == ["staging"]
    element = elements(found, "vllm-inference-fast")["staging"]
    assert (element["part"], element["path"]) == ("staging/vllm-fast", "infra/staging/k8s/vllm/fast")
    # What is the same name on two clusters are two servers.
    hosts["production"] = HOSTS["production"] | {
        "vllm_enabled": True,
        "vllm_profiles": {"quick": {"name": "vllm-fast"}},
    }
    hosts["production"]["vllm_enabled_profiles"] = ["quick"]
    assert list(elements(sets(hosts, **LIST), "vllm-inference-quick")) == ["production"]


def test_a_list_leaves_removing_to_the_run_that_knows_what_stays_wanted():
    def template(**more):
        spec = sets(HOSTS, **LIST, **more)["vllm-inference"]["spec"]
        return spec["syncPolicy"], spec["template"]["metadata"]

    policy, metadata = template()
    assert policy == {"applicationsSync": "create-update", "preserveResourcesOnDeletion": True}
    assert metadata["labels"]["modelyard/component"] == "argocd-apps"
    assert metadata["annotations"][PART] == "{{ .part }}"
    assert template(argocd_apps_finalizer=True)[0]["preserveResourcesOnDeletion"] is False


def test_clusters_are_found_by_their_secrets():
    settings = {"argocd_apps_generator": "clusters", "argocd_apps_cluster_selector": {"env": "prod"}}
    spec = sets(argocd_apps_path="infra/{{ .name }}/k8s", **settings)["vllm-inference"]["spec"]
    assert spec["generators"] == [{"clusters": {"selector": {"matchLabels": {"env": "prod"}}}}]
    assert spec["template"]["metadata"]["name"] == "{{ .nameNormalized }}-vllm-inference"
    assert spec["template"]["spec"]["source"]["path"] == "infra/{{ .name }}/k8s/vllm/base"
    assert spec["template"]["spec"]["destination"] == {"namespace": "ml-models", "server": "{{ .server }}"}
    # Argo CD removes them with their cluster, so they are not the run's to prune.
    assert "modelyard/component" not in spec["template"]["metadata"].get("labels", {})


# --- The project -----------------------------------------------------------------------------------

OWN = {"argocd_apps_project": "models", "argocd_apps_project_create": True}


def test_the_project_allows_just_what_the_applications_need():
    other = {"argocd_apps_overrides": {"vllm-inference": {"repo_url": "https://example.com/llm"}}}
    kinds = [{"group": "apps", "kind": "Deployment"}]
    spec = objects("AppProject", argocd_apps_project_kinds=kinds, **OWN, **other)["models"]["spec"]
    assert {key: spec[key] for key in spec if key != "description"} == {
        "sourceRepos": ["https://example.com/llm", "https://github.com/your-org/mlops-on-kubernetes"],
        "destinations": [{"namespace": "ml-models", "server": "https://kubernetes.default.svc"}],
        "clusterResourceWhitelist": [{"group": "", "kind": "Namespace"}],
        "namespaceResourceWhitelist": kinds,
    }
    without = objects("AppProject", argocd_apps_create_namespace=False, **OWN)["models"]["spec"]
    assert without["clusterResourceWhitelist"] == []
    assert objects("AppProject") == {}


def test_the_project_of_a_list_allows_its_clusters():
    assert objects("AppProject", HOSTS, **OWN, **LIST)["models"]["spec"]["destinations"] == [
        {"name": "prod", "namespace": "models"},
        {"namespace": "ml-models", "server": "https://staging.example.com"},
    ]


# --- Credentials -----------------------------------------------------------------------------------

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"


def test_credentials_become_argocds_keys():
    given = {"username": "git", "password": "hush"}
    assert credentials(given, "https://example.com/r", "repo") == {
        "data": {"type": "git", "url": "https://example.com/r", "username": "git", "password": "hush"},
        "problems": [],
    }
    assert credentials({"ssh_private_key": KEY}, "git@example.com:r", "repo")["data"]["sshPrivateKey"] == KEY
    assert credentials({}, "https://example.com/r", "repo") == {"data": {}, "problems": []}


@pytest.mark.parametrize(
    ("given", "url", "message"),
    [
        ({"password": "hush"}, "https://e/r", "must have both username and password"),
        ({"username": "git"}, "https://e/r", "must have both username and password"),
        ({"username": "git", "password": "hush", "ssh_private_key": KEY}, "git@e:r", "not both"),
        ({"ssh_private_key": KEY}, "https://e/r", "is reached by HTTP"),
        ({"username": "git", "password": "hush"}, "git@e:r", "is not reached by HTTP"),
        ({"ssh_private_key": "hush"}, "git@e:r", "must be a private key in PEM"),
    ],
)
def test_wrong_credentials_are_refused_and_not_shown(given, url, message):
    found = credentials(given, url, "repo")
    assert found["data"] == {}
    assert any(message in line for line in found["problems"]), found
    assert "hush" not in str(found)
    assert "abc" not in str(found)


def test_a_rendering_has_no_credential():
    found = compute(argocd_apps_repository={"username": "git", "password": "hush"})
    assert found["problems"] == []
    assert [secret["kept"] for secret in found["secrets"]] == [True]
    assert "hush" not in str(found)
    assert [secret["kept"] for secret in compute()["secrets"]] == [False]


# --- Refusals --------------------------------------------------------------------------------------

CREATE = {"project_create": True}


def extra(**settings):
    return {"extra": {"lab": settings}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": {"vllm-inferense": {}}}, "argocd_apps_overrides.vllm-inferense.*did you mean 'vllm-inference'"),
        (extra(), "argocd_apps_extra.lab is {}: needs path"),
        ({"extra": {"vllm-inference": {"path": "x"}}}, "is there already"),
        ({"extra": {"Lab_1": {"path": "x"}}}, "argocd_apps_extra.Lab_1 is 'Lab_1': the key must be a DNS label"),
        (extra(path="infra/k8s/shared"), "is the path of Application ml-models-shared too"),
        (extra(path="infra/k8s/shared", target_revision="v1"), "an object has one owner"),
        (extra(path="infra/k8s/vllm/judge-large"), "holds objects of Application vllm-inference-judge"),
        (extra(path="infra/k8s/vllm/overlays/judge"), "holds objects of Application vllm-inference too"),
        (extra(path="infra/k8s/triton/base"), "holds objects of Application triton-inference-cpu too"),
        (extra(path="infra/k8s/vllm/fast/"), "holds objects of Application vllm-inference-fast too"),
        ({"overrides": {"vllm-inference": {"name": "ml-models-shared"}}}, "is the name of Application"),
        (
            {"profiles": {"vllm_judge": ["judge", "judge-large"]}},
            "holds objects of Application vllm-inference-judge too",
        ),
        ({"profiles": {"trition": ["cpu"]}}, "argocd_apps_profiles.trition is 'trition': .*did you mean 'triton'"),
        ({"profiles": {"vllm": ["fats"]}}, r"argocd_apps_profiles.vllm\[0\] is 'fats': unknown, did you mean 'fast'"),
        ({"destination_server": ""}, "argocd_apps_destination_server is '': must be set"),
        ({"sync_waves": {"judge": 3}}, "argocd_apps_sync_waves.judge is 'judge': unknown"),
        (extra(path="../x"), "must be a folder inside the repository"),
        (extra(path="x", repo_url="https://hush@e/r"), r"is 'https://\(hidden\)@e/r': must be the URL"),
        (extra(path="x", repo_url="ssh://git:hush@e/r"), "its credentials go into argocd_apps_repo"),
        ({"path": "/infra", "repo_url": ""}, "argocd_apps_repo_url is '': must be the URL"),
        ({"sync_options": ["Prune"]}, "must be NAME=VALUE"),
        ({"sync_options": ["CreateNamespace=false"]}, "leave CreateNamespace out: create_namespace sets it"),
        ({"sync_options": ["ServerSideApply=true", "Replace=true"]}, "would win over ServerSideApply"),
        (extra(path="x", sync_options=["Prune"]), "argocd_apps_extra.lab.sync_options is 'Prune': must be NAME=VALUE"),
        (
            {"overrides": {"ml-models-shared": {"repo_url": "https://hush@e/r"}}},
            r"argocd_apps_overrides.ml-models-shared.repo_url is 'https://\(hidden\)@e/r'",
        ),
        (
            {"retry": {"backoff": {"duration": "5 sec"}}},
            "argocd_apps_retry.backoff.duration is '5 sec': must be a time",
        ),
        ({"ignore_differences": [{"kind": "Deployment"}]}, "needs one of jsonPointers"),
        (CREATE, "argocd_apps_project is 'default': belongs to Argo CD"),
        (CREATE | {"project": "My_1"}, "argocd_apps_project is 'My_1': must be a name of up to 253"),
        ({"generator": "list"}, "argocd_apps_hosts is .*: must name the inventory's hosts"),
    ],
)
def test_refusals(given, message):
    servers = {"vllm_enabled_profiles": ["vllm", "fast"], "vllm_profiles": {"fast": {}}}
    found = compute(**servers, **{f"argocd_apps_{name}": value for name, value in given.items()})
    assert found["parts"][0]["objects"] == []
    assert any(re.search(message, line) for line in found["problems"]), found["problems"]
    assert "hush" not in str(found["problems"])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"vllm_enabled_profiles": ["vllm", "judge"], "vllm_profiles": {"judge": {}}},
            "two Applications have this name",
        ),
        ({"vllm_enabled_profiles": ["vllm", "base"], "vllm_profiles": {"base": {}}}, "is the path of Application"),
        ({"triton_enabled_profiles": ["cpu", "cpu"]}, r"triton_enabled_profiles\[1\] is 'cpu': is listed twice"),
    ],
)
def test_two_servers_with_one_application_are_refused(variables, message):
    assert any(re.search(message, line) for line in compute(**variables)["problems"])


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ({"staging": HOSTS["staging"]}, "argocd_apps_hosts is 'production': is no host"),
        (HOSTS | {"production": {}}, "host production.*must set argocd_apps_destination_server"),
        (
            {"staging": HOSTS["staging"], "production": HOSTS["staging"] | {"platform_cluster_name": "staging"}},
            "two Applications have this name",
        ),
        ({"staging": HOSTS["staging"], "production": HOSTS["staging"]}, "an object has one owner"),
        ({"Staging": HOSTS["staging"]}, "'Staging-vllm-inference': its name must be up to 63"),
    ],
)
def test_refusals_of_a_list(hosts, message):
    named = ["Staging"] if "Staging" in hosts else list(HOSTS)
    found = compute(hosts, **LIST | {"argocd_apps_hosts": named})
    assert found["parts"][0]["objects"] == []
    assert any(re.search(message, line) for line in found["problems"]), found["problems"]


def test_the_secret_needs_a_name():
    found = credentials({"username": "git", "password": "hush"}, "https://e/r", "My_Repo")
    assert found["data"] == {}
    assert "argocd_apps_repository_name is 'My_Repo': must be a name" in found["problems"][0]
