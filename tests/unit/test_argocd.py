"""Which Applications there are, what they contain, and which objects belong to which."""

import re

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd.applications import PART, applications, credentials

SELECTION = {
    "triton": ["cpu", "gpu"],
    "vllm": True,
    "judge": "judge",
    "shared": True,
    "triton_prefix": "triton-inference-",
    "vllm_name": "vllm-inference",
    "judge_prefix": "vllm-inference-",
    "shared_name": "ml-models-shared",
}
SETTINGS = {
    "repo_url": "https://example.com/repo",
    "target_revision": "main",
    "path": "infra/k8s",
    "project": "default",
    "destination_server": "https://kubernetes.default.svc",
    "destination_name": "",
    "destination_namespace": "ml-models",
    "create_namespace": True,
    "automated": True,
    "prune": True,
    "self_heal": True,
    "retry": {"limit": 5},
    "sync_options": ["ServerSideApply=true"],
    "ignore_differences": [],
    "finalizer": False,
    "labels": {},
    "annotations": {},
    "waves": {"shared": 0, "judge": 2},
    "parked_managers": ["kubectl"],
    "host": "hub",
    "cluster": "here",
    "generator": "none",
    "hosts": [],
    "cluster_selector": {},
    "project_create": False,
    "project_kinds": [{"group": "apps", "kind": "Deployment"}],
}
REPLICAS = {"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}


def compute(overrides=None, extra=None, settings=None, inventory=None, hosts=None, **selection):
    return applications(
        SELECTION | selection, SETTINGS | (settings or {}), overrides or {}, extra or {}, inventory or {}, hosts or {}
    )


def apps(*layers, **arguments):
    found = compute(*layers, **arguments)
    assert found["problems"] == []
    return {app["name"]: app for app in found["applications"]}


def paths(*layers, **arguments):
    return {name: app["path"] for name, app in apps(*layers, **arguments).items()}


def test_the_contract():
    assert paths() == {
        "triton-inference-cpu": "infra/k8s/triton/overlays/cpu",
        "triton-inference-gpu": "infra/k8s/triton/overlays/gpu",
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-judge": "infra/k8s/vllm/judge",
        "ml-models-shared": "infra/k8s/shared",
    }


@pytest.mark.parametrize("judge", ["none", None, ""])
def test_what_is_off_has_none(judge):
    assert list(paths(triton=["cpu"], vllm=False, judge=judge, shared=False)) == ["triton-inference-cpu"]


def test_the_other_judge_and_profiles_of_ones_own():
    found = paths(triton=["l4"], judge="judge-large")
    assert found["vllm-inference-judge-large"] == "infra/k8s/vllm/judge-large"
    assert found["triton-inference-l4"] == "infra/k8s/triton/overlays/l4"
    assert "vllm-inference-judge" not in found


def test_the_manifests_settings():
    app = apps(triton=[], vllm=False, judge="none")["ml-models-shared"]
    assert app["policy"] == {
        "automated": {"prune": True, "selfHeal": True},
        "syncOptions": ["ServerSideApply=true", "CreateNamespace=true"],
        "retry": {"limit": 5},
    }
    assert app["destination"] == {"namespace": "ml-models", "server": "https://kubernetes.default.svc"}
    assert app["finalizers"] == []
    assert app["annotations"] == {PART: "here/shared", "argocd.argoproj.io/sync-wave": "0"}


def test_overrides_reach_one_application():
    own = {"sync_wave": 5, "finalizer": True, "automated": False, "destination_name": "prod", "target_revision": "v1"}
    found = apps({"ml-models-shared": own})
    first = found.pop("ml-models-shared")
    assert first["annotations"]["argocd.argoproj.io/sync-wave"] == "5"
    assert first["finalizers"] == ["resources-finalizer.argocd.argoproj.io"]
    assert "automated" not in first["policy"]
    assert first["destination"] == {"namespace": "ml-models", "name": "prod"}
    assert all(app["target_revision"] == "main" and not app["finalizers"] for app in found.values())


def test_a_renamed_and_a_further_one():
    found = paths({"vllm-inference": {"name": "llm"}}, {"lab": {"path": "lab/k8s"}})
    assert found["llm"] == "infra/k8s/vllm/base"
    assert found["lab"] == "lab/k8s"


def test_settings_of_one_that_is_off_may_stay():
    assert "vllm-inference-judge-large" not in paths({"vllm-inference-judge-large": {"sync_wave": 1}})


# --- Whose a part is -------------------------------------------------------------------------------


def test_a_part_is_called_after_its_deployment_whichever_application_has_it():
    inventory = {"vllm_judge_variants": {"mine": {"name": "judge-b"}}, "triton_profiles": {"l4": {"name": "triton-l4"}}}

    def part(**selection):
        return {app["name"]: app["annotations"][PART] for app in apps(inventory=inventory, **selection).values()}

    assert (
        part()["vllm-inference-judge"] == part(judge="judge-large")["vllm-inference-judge-large"] == "here/judge-vllm"
    )
    assert part(judge="mine")["vllm-inference-mine"] == "here/judge-b"
    assert part()["triton-inference-gpu"] == "here/triton-inference-gpu"
    assert part(triton=["l4"])["triton-inference-l4"] == "here/triton-l4"
    assert part()["ml-models-shared"] == "here/shared"


def test_a_server_stays_wanted_when_only_its_application_is_off():
    on = {"vllm_enabled": True, "vllm_judge_variant": "none", "triton_enabled_profiles": ["cpu"]}
    off = on | {"vllm_enabled": False}
    wanted = {"here/shared", "here/triton-inference", "here/vllm"}
    selection = {"triton": ["cpu"], "vllm": False, "judge": "none"}
    assert set(compute(inventory=on, **selection)["parts"]) == wanted
    assert set(compute(inventory=off, **selection)["parts"]) == wanted - {"here/vllm"}


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
    found = apps(inventory=inventory)
    assert [key for key, app in found.items() if app["ignore_differences"] == [REPLICAS]] == [name]


def test_a_profile_can_take_its_replicas_back():
    inventory = {"triton_autoscaled": True, "triton_profiles": {"cpu": {"autoscaled": False}}}
    found = apps(inventory=inventory)
    assert found["triton-inference-gpu"]["ignore_differences"] == [REPLICAS]
    assert found["triton-inference-cpu"]["ignore_differences"] == []


def test_who_wakes_a_parked_judge_keeps_its_replicas():
    found = apps(inventory={"vllm_judge_parked": True})
    rule = {"group": "apps", "kind": "Deployment", "managedFieldsManagers": ["kubectl"]}
    assert found.pop("vllm-inference-judge")["ignore_differences"] == [rule]
    assert not any(app["ignore_differences"] for app in found.values())
    assert not any(app["ignore_differences"] for app in apps().values())


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
LIST = {"generator": "list", "hosts": list(HOSTS)}


def elements(sets, name):
    return {item["cluster"]: item for item in sets[name]["generator"]["list"]["elements"]}


def test_a_list_has_what_each_host_has():
    sets = apps(settings=LIST, hosts=HOSTS)
    assert {name: list(elements(sets, name)) for name in sets} == {
        "triton-inference-cpu": ["staging", "production"],
        "triton-inference-gpu": ["production"],
        "vllm-inference": ["staging"],
        "vllm-inference-judge": ["production"],
        "ml-models-shared": ["staging", "production"],
    }
    assert elements(sets, "vllm-inference-judge")["production"] == {
        "cluster": "production",
        "application": "production-vllm-inference-judge",
        "part": "production/judge-vllm",
        "path": "infra/production/k8s/vllm/judge-large",
        "server": "",
        "destination": "prod",
        "namespace": "models",
    }
    assert elements(sets, "vllm-inference")["staging"]["server"] == "https://staging.example.com"


def test_a_list_leaves_removing_to_the_run_that_knows_what_stays_wanted():
    app = apps(settings=LIST, hosts=HOSTS)["vllm-inference"]
    assert app["sync"] == {"applicationsSync": "create-update", "preserveResourcesOnDeletion": True}
    assert app["labels"]["modelyard/component"] == "argocd-apps"
    assert app["annotations"][PART] == "{{ .part }}"
    final = apps(settings=LIST | {"finalizer": True}, hosts=HOSTS)["vllm-inference"]
    assert final["sync"]["preserveResourcesOnDeletion"] is False


def test_clusters_are_found_by_their_secrets():
    settings = {"generator": "clusters", "cluster_selector": {"env": "prod"}, "path": "infra/{{ .name }}/k8s"}
    app = apps(settings=settings)["vllm-inference"]
    assert app["generator"] == {"clusters": {"selector": {"matchLabels": {"env": "prod"}}}}
    assert app["application"] == "{{ .nameNormalized }}-vllm-inference"
    assert app["path"] == "infra/{{ .name }}/k8s/vllm/base"
    assert app["destination"] == {"namespace": "ml-models", "server": "{{ .server }}"}
    # Argo CD removes them with their cluster, so they are not the run's to prune.
    assert "modelyard/component" not in app["labels"]


# --- The project -----------------------------------------------------------------------------------


def test_the_project_allows_just_what_the_applications_need():
    settings = {"project": "models", "project_create": True}
    project = compute({"vllm-inference": {"repo_url": "https://example.com/llm"}}, settings=settings)["project"]
    assert project == {
        "name": "models",
        "repositories": ["https://example.com/llm", "https://example.com/repo"],
        "destinations": [{"namespace": "ml-models", "server": "https://kubernetes.default.svc"}],
        "cluster_kinds": [{"group": "", "kind": "Namespace"}],
        "kinds": SETTINGS["project_kinds"],
    }
    assert compute(settings=settings | {"create_namespace": False})["project"]["cluster_kinds"] == []
    assert compute()["project"] is None


def test_the_project_of_a_list_allows_its_clusters():
    settings = LIST | {"project": "models", "project_create": True}
    assert compute(settings=settings, hosts=HOSTS)["project"]["destinations"] == [
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


# --- Refusals --------------------------------------------------------------------------------------

PROJECT = {"project_create": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"vllm-inferense": {}}}, "argocd_apps_overrides.vllm-inferense.*did you mean 'vllm-inference'"),
        ({"extra": {"lab": {}}}, "argocd_apps_extra.lab is {}: needs path"),
        ({"extra": {"vllm-inference": {"path": "x"}}}, "is there already"),
        ({"extra": {"Lab_1": {"path": "x"}}}, "up to 63 lower-case"),
        ({"extra": {"lab": {"path": "infra/k8s/shared"}}}, "is the path of Application ml-models-shared too"),
        ({"extra": {"lab": {"path": "infra/k8s/shared", "target_revision": "v1"}}}, "an object has one owner"),
        (
            {"extra": {"lab": {"path": "infra/k8s/vllm/judge-large"}}},
            "holds objects of Application vllm-inference-judge",
        ),
        (
            {"extra": {"lab": {"path": "infra/k8s/vllm/overlays/judge"}}},
            "holds objects of Application vllm-inference too",
        ),
        (
            {"extra": {"lab": {"path": "infra/k8s/triton/base"}}},
            "holds objects of Application triton-inference-cpu too",
        ),
        ({"overrides": {"vllm-inference": {"name": "ml-models-shared"}}}, "is the name of Application"),
        ({"triton": ["cpu", "cpu"]}, "two Applications have this name"),
        ({"triton_prefix": "vllm-inference-", "triton": ["judge"]}, "two Applications have this name"),
        ({"extra": {"lab": {"path": "../x"}}}, "must be a folder inside the repository"),
        (
            {"extra": {"lab": {"path": "x", "repo_url": "https://hush@e/r"}}},
            r"is 'https://\(hidden\)@e/r': must be the URL",
        ),
        (
            {"extra": {"lab": {"path": "x", "repo_url": "ssh://git:hush@e/r"}}},
            "its credentials go into argocd_apps_repo",
        ),
        ({"settings": {"path": "/infra", "repo_url": ""}}, "repo_url is '': must be the URL"),
        ({"settings": {"sync_options": ["Prune"]}}, "must be NAME=VALUE"),
        ({"settings": {"sync_options": ["CreateNamespace=false"]}}, "is what create_namespace says"),
        ({"settings": {"sync_options": ["ServerSideApply=true", "Replace=true"]}}, "would win over ServerSideApply"),
        ({"settings": {"retry": {"backoff": {"duration": "5 sec"}}}}, "backoff.duration is '5 sec': must be a time"),
        ({"settings": {"ignore_differences": [{"kind": "Deployment"}]}}, "needs one of jsonPointers"),
        ({"settings": PROJECT}, "argocd_apps_project is 'default': belongs to Argo CD"),
        ({"settings": PROJECT | {"project": "My_1"}}, "argocd_apps_project is 'My_1': must be up to 63"),
        ({"settings": {"generator": "list"}}, "argocd_apps_hosts is .*: must name the inventory's hosts"),
        ({"settings": LIST, "hosts": {"staging": HOSTS["staging"]}}, "argocd_apps_hosts is 'production': is no host"),
        (
            {"settings": LIST, "hosts": HOSTS | {"production": {}}},
            "host production.*must set argocd_apps_destination_server",
        ),
        (
            {"settings": LIST, "hosts": {"staging": HOSTS["staging"], "production": HOSTS["staging"]}},
            "two Applications have this name|an object has one owner",
        ),
        (
            {"settings": LIST, "hosts": {"Staging": HOSTS["staging"]}},
            "'Staging-vllm-inference': its name must be up to 63",
        ),
    ],
)
def test_refusals(arguments, message):
    found = compute(**arguments)
    assert found["applications"] == []
    assert any(re.search(message, line) for line in found["problems"]), found
    assert "hush" not in str(found["problems"])


def test_the_secret_needs_a_name():
    found = credentials({"username": "git", "password": "hush"}, "https://e/r", "My_Repo")
    assert found["data"] == {}
    assert "argocd_apps_repository_name is 'My_Repo': must be a name" in found["problems"][0]
