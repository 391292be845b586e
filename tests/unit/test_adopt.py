"""Adopting: what runs, in the shapes of public charts, becomes an inventory whose rendering is the same."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import (
    command,
    compare,
    inventory,
    result,
    telling,
    verify,
    vllm,
    words,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import PROFILES
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding
from rendering import host, rendered

SHAPES = Path(__file__).parents[1] / "adopt"
PLACE = {"platform_cluster_name": "here", "platform_api_server": "https://x", "platform_namespace": "llm"}


@pytest.fixture(scope="module")
def adopted():
    """Adopt a file of tests/adopt; each once."""
    brought = {role: host().values(role) for role in (*PROFILES, "apply")}
    known = {}

    def adopt(name):
        if name not in known:
            objects = [item for item in yaml.safe_load_all((SHAPES / f"{name}.yaml").read_text()) if item]
            known[name] = inventory.adopt(objects, PLACE, lambda variables: rendered(**variables), brought)
        return known[name]

    return adopt


@pytest.fixture(scope="module")
def read():
    """Adopt objects."""
    brought = {role: host().values(role) for role in (*PROFILES, "apply")}
    return lambda *objects: inventory.adopt(list(objects), PLACE, lambda variables: rendered(**variables), brought)


def deployment(name="a", pod=None, **container):
    main = {
        "name": "server",
        "image": "vllm/vllm-openai:v0.14.1",
        "args": ["--model", "a/b"],
        "ports": [{"containerPort": 8000, "name": "http-api"}],
        "resources": {
            "requests": {"cpu": "2", "memory": "10Gi"},
            "limits": {"memory": "20Gi", "nvidia.com/gpu": "1"},
        },
        **container,
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [main], **(pod or {})}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": name, "namespace": "llm"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def everything(whole):
    """Give the inventory and all that is told beside it, as one text."""
    return telling.text(whole.variables) + "\n".join([*telling.told(whole, [], "llm"), str(telling.rows(whole))])


def server(whole, name):
    return next(one for one in whole.servers if one.found.settings["name"] == name)


def settings(whole, name):
    return server(whole, name).found.settings


@pytest.mark.parametrize(
    "shape", ["production-stack", "inference-chart", "plain", "triton-chart", "sidecar-chart", "others"]
)
def test_the_written_inventory_is_accepted_and_its_rendering_is_what_runs(adopted, shape):
    """What the roles do in their own way aside: each of those is told."""
    whole = adopted(shape)
    assert whole.problems == []
    variables = yaml.safe_load(telling.text(whole.variables))
    found = rendered(**variables)
    assert found["problems"] == []
    for one in whole.servers:
        ours = verify.deployment(found, one)
        left = list(compare.differences(compare.normal(one.live, one.found.renamed), compare.rendered(ours)))
        assert [compare.line(item) for item in left if not compare.is_own(item)] == []
        told = "\n".join(telling.told(whole, [], "llm"))
        marks = ("metadata.labels", "metadata.annotations")
        missing = [item for item in left if not compare.dotted(item[0]).startswith(marks)]
        assert all(compare.dotted(item[0]) in told for item in missing)


def test_flags_become_variables_and_the_rest_extra_args(adopted):
    stack = settings(adopted("production-stack"), "stack-mistral-deployment-vllm")
    assert stack["model"] == "mistralai/Mistral-7B-Instruct-v0.2"
    assert (stack["max_model_len"], stack["gpu_memory_utilization"]) == (8192, 0.85)
    assert stack["extra_args"] == {
        "no-enable-prefix-caching": True,
        "dtype": "bfloat16",
        "kv-transfer-config": {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"},
    }
    assert stack["hf_token_secret"] == {"name": "stack-secrets", "key": "hf_token_mistral"}
    assert stack["cache"] == {
        "type": "claim",
        "claim_name": "stack-mistral-storage-claim",
        "create": False,
        "size": "60Gi",
        "access_mode": "ReadWriteOnce",
    }
    assert stack["extra_init_containers"][0]["volumeMounts"] == [{"name": "cache", "mountPath": "/data"}]
    pod = stack["patch"]["spec"]["template"]["spec"]
    assert (pod["hostname"], pod["subdomain"]) == ("stack-mistral-vllm-stack", "stack-mistral-engine-service")
    assert stack["autoscaled"]
    kinds = [(item["kind"], item["metadata"]["name"]) for item in stack["extra_objects"]]
    assert kinds == [("Service", "stack-mistral-engine-service"), ("ScaledObject", "stack-mistral-scaledobject")]
    # The router beside it is no server, and Helm's fields are taken over.
    assert len(adopted("production-stack").servers) == 1
    assert "helm" in adopted("production-stack").variables["apply_adopt_managers"]


def test_a_shell_is_read_and_its_variables_are_put_in(adopted):
    llama = settings(adopted("inference-chart"), "llama-vllm")
    assert (llama["model"], llama["served_model_name"]) == ("/models/llama", ["llama", "llama-70b"])
    assert (llama["max_model_len"], llama["tensor_parallel_size"]) == ("32k", 4)
    assert llama["extra_args"]["max-num-seqs"] == 64
    assert llama["extra_args"]["compilation-config"] == {"cudagraph_mode": "PIECEWISE"}
    assert llama["env"]["VLLM_LOGGING_LEVEL"] == "INFO"
    assert llama["service_account_name"] == "inference"
    assert llama["role_name"] == "arn:aws:iam::210987654321:role/inference"
    assert llama["autoscaling"]["maxReplicas"] == 4
    assert (llama["shm_size"], llama["startup_seconds"], llama["termination_grace_seconds"]) == ("20Gi", 1800, 180)
    (balancer,) = llama["extra_objects"]
    # By its old labels it goes on selecting the old pods beside the new ones.
    assert balancer["spec"]["selector"] == {"app.kubernetes.io/component": "llama-vllm"}
    assert balancer["spec"]["type"] == "LoadBalancer"
    assert settings(adopted("inference-chart"), "llama-vllm")["service_name"] == "llama-vllm-server"


def test_a_selector_of_another_form_is_told_with_the_way_around_it(adopted):
    told = server(adopted("inference-chart"), "llama-vllm").takeover
    assert "kubectl -n llm delete deployment llama-vllm --cascade=orphan" in told
    assert server(adopted("plain"), "mistral-7b").takeover == ""


def test_no_credential_is_written_and_each_is_named(adopted):
    for shape in ("plain", "others"):
        one = adopted(shape)
        all_of_it = telling.text(one.variables) + "\n".join(telling.told(one, [], "llm"))
        for value in ("hf_abcdefghijklmnopqrstuvwxyz", "aB3dEfGh1jKlMn0pQrStUv"):
            assert value not in all_of_it
    assert (
        "env.HUGGING_FACE_HUB_TOKEN: its value is a credential" in server(adopted("plain"), "mistral-7b").found.lost[0]
    )
    lost = server(adopted("others"), "release-deployment-vllm").found.lost
    assert any(line.startswith("sidecars: has a credential") for line in lost)
    # And no run goes on with something else in its place.
    refused = rendered(**yaml.safe_load(telling.text(adopted("others").variables)))["placeholders"]
    assert any("sidecars" in line and "CHANGE_ME" in line for line in refused)


def test_no_credential_comes_back_by_the_patch(read):
    bearer = "Authorization: Bearer {}abcdefghij0123456789"
    header = {"name": "Authorization", "value": "Bearer PROBEabcdefghij0123456789"}
    first = {
        "name": "download",
        "image": "amazon/aws-cli:2",
        "args": ["--token", "ARGTOK99"],
        "env": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "ENVSECRET"}, {"name": "HF_TOKEN", "value": "ENVTOKEN"}],
    }
    whole = read(
        deployment(
            pod={"initContainers": [first]},
            readinessProbe={"httpGet": {"path": "/health", "port": 8000, "httpHeaders": [header]}},
            livenessProbe={"exec": {"command": ["curl", "-H", bearer.format("ALIVE"), "localhost"]}},
            lifecycle={"postStart": {"exec": {"command": ["sh", "-c", f"curl -H '{bearer.format('LIFE')}' x"]}}},
        )
    )
    assert [
        key for key in ("PROBE", "ALIVE", "LIFE", "ARGTOK99", "ENVSECRET", "ENVTOKEN") if key in everything(whole)
    ] == []
    assert any(line.startswith("patch: has a credential") for line in server(whole, "a").found.lost)
    assert "patch" in settings(whole, "a")
    assert "CHANGE_ME" in str(settings(whole, "a")["patch"])


@pytest.mark.parametrize(
    "given",
    [
        {"command": ["python3", "serve.py", "--api-key", "s3cr3tvalue99"]},
        {"command": ["python3", "serve.py", "x" * 95, "--api-key=s3cr3tvalue99"]},
        {"command": ["wrap", "--token", "s3cr3tvalue99", "vllm", "serve", "m"]},
        {"command": ["sh", "-c", "aws configure set aws_secret_access_key s3cr3tvalue99 && vllm serve m"]},
        {"command": ["sh", "-c", "A=1 login s3cr3tvalue99 && vllm serve m; curl -u admin:s3cr3tvalue99 x"]},
        {"args": ["--model", "a/b", "--ssl-keyfile-password", "s3cr3tvalue99"]},
        {
            "image": "nvcr.io/nvidia/tritonserver:25.01-py3",
            "command": ["tritonserver"],
            "args": ["--model-repository=/m", "--http-restricted-api=inference:infer-key=s3cr3tvalue99"],
        },
        {"pod": {"initContainers": [{"name": "c", "image": "c:1", "args": ["login --token s3cr3tvalue99 --x"]}]}},
        {"pod": {"initContainers": [{"name": "c", "image": "c:1", "args": ["curl -u me:s3cr3tvalue99 x"]}]}},
    ],
)
def test_no_credential_of_a_command_line_is_written_or_told(read, given):
    assert "s3cr3tval" not in everything(read(deployment(**given)))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("login --token abcdefgh -x", f"login --token {hiding.MARK} -x"),
        ("set aws_secret_access_key wJalrXUt;", f"set aws_secret_access_key {hiding.MARK};"),
        ("curl -u admin:hunter x", f"curl -u admin:{hiding.MARK} x"),
        ("vllm serve m --api-key $KEY --token-file /run/token --tokenizer abcdefgh", ""),
        ("docker run -u 1000:10000 x", ""),
        ("--api-key --served-model-name abcdefgh", ""),
    ],
)
def test_a_credential_behind_an_option_of_a_text_is_hidden(text, hidden):
    assert hiding.hide_text(text) == (hidden or text)


def test_names_of_headers_and_flags_are_a_credential_s_with_dashes_too():
    given = {"ssl-keyfile-password": "pw", "nginx.ingress.kubernetes.io/auth-secret": "name-of-a-secret"}
    assert hiding.hide(given) == {**given, "ssl-keyfile-password": hiding.MARK}
    header = {"name": "Authorization", "value": "Basic YTpi"}
    assert hiding.hide(header) == {**header, "value": hiding.MARK}


@pytest.mark.parametrize("size", ["$(nvidia-smi -L | wc -l)", "$TP"])
def test_a_number_that_only_the_pod_knows_is_left_to_be_set(read, size):
    line = f"vllm serve m --port $PORT --tensor-parallel-size {size} $NONE"
    empty = {"env": [{"name": "NONE"}], "envFrom": [{"configMapRef": {"name": "numbers"}}]}
    whole = read(deployment(command=["sh", "-c", line], **empty), deployment("b"))
    assert (settings(whole, "a")["tensor_parallel_size"], settings(whole, "a")["http_port"]) == ("CHANGE_ME",) * 2
    assert "extra_args" not in settings(whole, "a")
    assert any("the value of $PORT is not known" in line for line in server(whole, "a").found.lost)
    assert any("http_port" in line for line in whole.problems)
    assert settings(whole, "b")["model"] == "a/b"


@pytest.mark.parametrize("flag", ["-tp=2", "-pp=2", "-dp=2"])
def test_several_gpus_get_shared_memory(read, flag):
    devices = {"requests": {"cpu": "2", "memory": "10Gi"}, "limits": {"memory": "20Gi", "nvidia.com/gpu": "2"}}
    whole = read(deployment(args=["--model", "a/b", flag], resources=devices))
    assert settings(whole, "a")["shm_size"] == "2Gi"


def test_a_headless_service_may_have_no_ports(read):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"}}
    whole = read(deployment(), {**service, "spec": {"clusterIP": "None", "selector": {"app": "a"}}})
    (extra,) = settings(whole, "a")["extra_objects"]
    assert extra["spec"] == {"clusterIP": "None", "selector": {"app": "a"}}


def test_what_several_servers_share_has_one_owner(read):
    def of(kind, name, version="v1", **spec):
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "llm"}, "spec": spec}

    def to(name):
        return {
            "path": f"/{name}",
            "pathType": "Prefix",
            "backend": {"service": {"name": name, "port": {"number": 80}}},
        }

    ports = [{"port": 80, "targetPort": 8000}]
    services = [of("Service", name, selector={"app": name}, ports=ports) for name in "ab"]
    both = of("Service", "both", selector={"tier": "llm"}, ports=ports)
    ingress = of("Ingress", "all", "networking.k8s.io/v1", rules=[{"http": {"paths": [to("a"), to("b")]}}])
    endpoints = [{"port": "http-api"}]
    monitor = of("PodMonitor", "all", "monitoring.coreos.com/v1", selector={}, podMetricsEndpoints=endpoints)
    account = of("ServiceAccount", "b")
    account["metadata"]["annotations"] = {"eks.amazonaws.com/role-arn": "arn:aws:iam::210987654321:role/inference"}
    servers = [deployment(name, {"serviceAccountName": "b"}) for name in "ab"]
    for item in servers:
        item["spec"]["template"]["metadata"]["labels"]["tier"] = "llm"
    whole = read(*servers, *services, both, ingress, monitor, account)
    assert whole.problems == []
    shared = [(item["kind"], item["metadata"]["name"]) for item in whole.variables["platform_extra_objects"]]
    assert sorted(shared) == [("Ingress", "all"), ("PodMonitor", "all"), ("Service", "both")]
    for name in "ab":
        assert [item["metadata"]["name"] for item in settings(whole, name)["extra_objects"]] == [name]
        assert settings(whole, name)["role_name"] == "arn:aws:iam::210987654321:role/inference"
        # The account stays with the server of its name.
        assert settings(whole, name)["service_account_name"] == name
    assert any(line.startswith("ServiceAccount b is server b's too") for line in server(whole, "a").found.notes)


def test_a_service_by_the_label_app_leads_to_one_of_several_servers(read):
    servers = [deployment(name) for name in "ab"]
    for item in servers:
        item["spec"]["template"]["metadata"]["labels"]["app"] = "llm"
    spec = {"selector": {"app": "llm"}, "ports": [{"port": 8000, "targetPort": 8000}]}
    metadata = {"name": "both", "namespace": "llm"}
    whole = read(*servers, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    assert whole.problems == []
    assert settings(whole, "a")["service_name"] == "both"
    assert any("its clients must ask there" in line for line in server(whole, "b").found.notes)


def test_images_commands_and_environments_of_other_charts(adopted):
    others = adopted("others")
    python = settings(others, "release-deployment-vllm")
    assert (python["model"], python["http_port"], python["tensor_parallel_size"]) == ("/data", 8080, 2)
    assert python["security_context"]["runAsUser"] == 1000
    assert [item["name"] for item in python["sidecars"]] == ["auth-proxy"]
    sagemaker = settings(others, "dlc")
    assert (sagemaker["model"], sagemaker["max_model_len"]) == ("s3://weights/llama-3.1-8b/", 16384)
    assert sagemaker["extra_args"] == {"load-format": "runai_streamer", "enforce-eager": True}
    assert sagemaker["env"] == {"AWS_REGION": "eu-west-1"}
    assert sagemaker["patch"]["spec"]["template"]["spec"]["hostIPC"] is True
    flags = settings(others, "flags")
    assert (flags["model"], flags["max_loras"], flags["lora_enabled"]) == ("Qwen/Qwen3-8B", 4, True)
    assert flags["api_key_secret"] == {"name": "keys", "key": "vllm"}
    assert any("--lora-modules a=/lora/a b=/lora/b" in line for line in server(others, "flags").found.lost)
    triton = settings(others, "triton-llm")
    assert (triton["model_repository"], triton["models"]) == ("s3://my-models/repo", ["resnet", "bert"])
    assert triton["http_port"] == 8010
    # Without a GPU, and without a word of what it needs.
    plain = settings(others, "cpu-server")
    assert list(plain["skip_checks"]) == ["parallel"]
    assert plain["patch"]["spec"]["template"]["spec"]["containers"] == [{"name": "vllm", "resources": None}]
    assert settings(others, "iris")["models"]["iris"]["uri"] == "/mnt/models"
    chart = settings(adopted("triton-chart"), "example-triton-inference-server")
    assert (chart["model_repository"], chart["model_control_mode"]) == ("/models", "poll")
    assert chart["extra_args"] == ["--repository-poll-secs=5", "--log-verbose=1"]


def test_a_native_sidecar_another_probe_and_a_port_of_another_name(adopted):
    decode = settings(adopted("sidecar-chart"), "ms-decode")
    assert [(item["name"], item["restartPolicy"]) for item in decode["sidecars"]] == [("routing-proxy", "Always")]
    assert (decode["http_port"], decode["startup_seconds"]) == (8200, 1815)
    assert decode["resources"]["limits"]["rdma/ib"] == "1"
    (main,) = decode["patch"]["spec"]["template"]["spec"]["containers"]
    assert main["livenessProbe"] == {"httpGet": None, "tcpSocket": {"port": 8200}}
    assert main["startupProbe"] == {"httpGet": {"path": "/v1/models"}, "timeoutSeconds": 5}
    (monitor,) = decode["extra_objects"]
    assert monitor["spec"]["podMetricsEndpoints"] == [{"port": "http"}]
    lost = server(adopted("sidecar-chart"), "ms-decode").found.lost
    assert "command: the shell runs, before the server: source ..." in lost


def test_what_is_no_deployment_or_no_known_command_is_told(adopted):
    told = adopted("others").others
    assert "StatefulSet stateful runs vllm: only Deployments can be expressed" in told
    assert "Pod model-qwen-1 (made by Model qwen) runs vllm: only Deployments can be expressed" in told
    assert any(
        line.startswith("Deployment script, container c: the command is none of a known server") for line in told
    )
    assert len(told) == 3


@pytest.mark.parametrize(
    ("given", "kind", "found", "lost"),
    [
        ({"command": ["vllm", "serve", "a/b", "--x"]}, "vllm", ["a/b", "--x"], ""),
        ({"command": ["vllm serve a/b"]}, "vllm", ["a/b"], ""),
        ({"args": ["--model", "a/b"]}, "vllm", ["--model", "a/b"], ""),
        ({"args": ["serve", "a/b"]}, "vllm", ["a/b"], ""),
        (
            {"command": ["python3", "-m", "vllm.entrypoints.openai.api_server"], "args": ["--model=a/b"]},
            "vllm",
            ["--model=a/b"],
            "",
        ),
        (
            {"command": ["bash", "-lc", "pip install x && vllm serve a/b 2>&1 | tee log"]},
            "vllm",
            ["a/b"],
            "before the server: pip ...",
        ),
        (
            {"command": ["sh", "-c", "M=a/b; exec vllm serve $M --port ${PORT:-81}"]},
            "vllm",
            ["a/b", "--port", "81"],
            "",
        ),
        ({"command": ["sh", "-c"], "args": ["vllm serve $(cat /model)"]}, "vllm", ["CHANGE_ME"], "the shell computes"),
        ({"command": ["env", "A=1", "vllm", "serve", "a/b"]}, "vllm", ["a/b"], ""),
        (
            {"command": ["mpirun", "-n", "2", "tritonserver", "--model-repository=/m"]},
            "triton",
            ["--model-repository=/m"],
            "mpirun -n 2",
        ),
        ({"command": ["/opt/venv/bin/vllm", "serve", "a/b"]}, "vllm", ["a/b"], "its program is /opt/venv/bin/vllm"),
        (
            {"command": ["sh", "-c", 'exec vllm serve "$@" --seed $1'], "args": ["--", "a/b", "--x", '{"k": 1}']},
            "vllm",
            ["a/b", "--x", '{"k": 1}', "--seed", "a/b"],
            "",
        ),
        (
            {
                "command": ["sh", "-c", "vllm serve a/b $ARGS"],
                "env": [{"name": "ARGS", "value": '--kv-transfer-config {"kv_connector":"X"}'}],
            },
            "vllm",
            ["a/b", "--kv-transfer-config", '{"kv_connector":"X"}'],
            "",
        ),
        ({"command": ["tini", "--", "bash", "-c", "vllm serve a/b"]}, "vllm", ["a/b"], ""),
        ({"command": ["env", "M=a/b", "bash", "-c", "vllm serve $M"]}, "vllm", ["a/b"], ""),
        (
            {"image": "harbor.corp/dockerhub-proxy/vllm/vllm-openai:v0.14.1", "args": ["--model", "a/b"]},
            "vllm",
            ["--model", "a/b"],
            "",
        ),
        ({"image": "lmcache/lmstack-router:1", "args": ["--port", "8000"]}, "", [], ""),
        ({"image": "docker.io/library/nginx:1"}, "", [], ""),
    ],
)
def test_the_server_is_found_in_a_command_line(given, kind, found, lost):
    read = command.read({"image": "vllm/vllm-openai:v0.14.1", **given})
    if not kind:
        assert read is None
        return
    assert (read.kind, read.words) == (kind, found)
    assert lost in "; ".join(read.lost)
    assert lost or not read.lost


def test_what_only_the_cluster_knows_is_left_to_be_set():
    found = result.Adopted(
        settings={"image": "vllm/vllm-openai:v0.14.1", "extra_volumes": [], "extra_volume_mounts": []}
    )
    vllm.fill(found, command.Command("vllm", ["--model=$(MODEL)", "--port", "$(PORT)"]), {})
    assert (found.settings["model"], found.settings["http_port"]) == ("CHANGE_ME", 8000)
    assert [line.partition(": only")[0] for line in found.lost] == ["the model: $(MODEL)", "args: --port $(PORT)"]


def test_words_are_sorted_as_the_parser_would():
    line = [
        "a/b",
        "--max_model_len",
        "32k",
        "-tp=2",
        "--enforce-eager",
        "--served-model-name",
        "x",
        "y",
        "--seed",
        "-1",
    ]
    found, single = words.vllm(line, "0.14.1")
    assert single == ["a/b"]
    assert found == {
        "--max-model-len": "32k",
        "--tensor-parallel-size": 2,
        "--enforce-eager": True,
        "--served-model-name": ["x", "y"],
        "--seed": "-1",
    }


def test_a_list_in_json_stays_one(read):
    origins = settings(read(deployment(args=["--model", "a/b", "--allowed-origins", '["https://a.example"]'])), "a")
    assert origins["extra_args"] == {"allowed-origins": ["https://a.example"]}


def test_a_flag_that_the_rendered_command_line_has_otherwise_is_told(read):
    whole = read(deployment(args=["--model", "a/b", "--seed=1", "--swap-space=4", "--chat-template={{ x }} $Y"]))
    one = server(whole, "a")
    assert not any("the rendered command line" in line for line in one.found.lost)
    one.words += ["--seed=2", "--enforce-eager"]
    verify.verify(whole, lambda variables: rendered(**variables))
    assert "args: --seed: the rendered command line has it otherwise" in one.found.lost
    assert "args: --enforce-eager: the rendered command line has it no longer" in one.found.lost
    assert not any("--swap-space" in line or "--chat-template" in line for line in one.found.lost)


def test_each_setting_with_a_credential_is_told_once(read):
    lost = server(
        read(deployment(args=["--model", "a/b", "--ssl-keyfile-password=pw99"], lifecycle={})), "a"
    ).found.lost
    assert [line for line in lost if "CHANGE_ME" in line] == [
        "extra_args: has a credential, and CHANGE_ME in its place: put it into a Secret, and name that"
    ]


@pytest.mark.parametrize(
    ("path", "volume", "lost"),
    [
        ("/dev/shm", {"hostPath": {"path": "/dev/shm"}}, "/dev/shm of volume x (hostPath)"),
        ("/tmp", {"hostPath": {"path": "/tmp"}}, "/tmp of volume x (hostPath)"),
        ("/etc/vllm", {"configMap": {"name": "c"}}, "/etc/vllm of volume x"),
        ("/cache", {"persistentVolumeClaim": {"claimName": "c"}}, ""),
    ],
)
def test_a_mount_where_the_role_has_its_own_does_not_refuse_the_inventory(read, path, volume, lost):
    mounts = [{"name": "x", "mountPath": path}]
    whole = read(
        deployment(pod={"volumes": [{"name": "x", **volume}]}, volumeMounts=mounts, args=["--model", "/cache/m"])
    )
    assert whole.problems == []
    told = [line for line in server(whole, "a").found.lost if line.startswith("volumeMounts")]
    assert [lost in line for line in told] == ([True] if lost else [])
    assert settings(whole, "a").get("extra_volume_mounts", []) == ([] if lost else mounts)
    assert settings(whole, "a").get("cache_path") == (None if lost else "/cache-of-vllm")


def test_a_shared_memory_that_is_a_part_of_another_volume_is_told(read):
    mounts = [{"name": "x", "mountPath": "/dev/shm"}, {"name": "x", "mountPath": "/scratch", "subPath": "s"}]
    whole = read(deployment(pod={"volumes": [{"name": "x", "emptyDir": {}}]}, volumeMounts=mounts))
    assert whole.problems == []
    assert settings(whole, "a")["extra_volume_mounts"] == mounts[1:]
    assert any("/dev/shm of volume x (emptyDir)" in line for line in server(whole, "a").found.lost)


def test_a_network_policy_lets_in_by_the_role_s_name_of_a_port(read):
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "in"}}
    ports = [{"port": "http-api"}, {"port": 9000}, {"protocol": "TCP"}]
    spec = {"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"ports": ports}, {}]}
    (extra,) = settings(read(deployment(), {**policy, "spec": spec}), "a")["extra_objects"]
    assert extra["spec"]["ingress"][0]["ports"][:2] == [{"port": "http"}, {"port": 9000}]


def test_no_two_servers_get_one_profile(read):
    whole = read(deployment("vllm"), deployment("vllm-server"))
    assert whole.problems == []
    assert list(whole.variables["vllm_profiles"]) == ["vllm-server", "vllm-server-2"]
    assert whole.variables["vllm_profiles"]["vllm-server-2"]["name"] == "vllm-server"
