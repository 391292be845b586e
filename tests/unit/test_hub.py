"""What is fetched of a model, against a stand-in with Hugging Face's layout (tests/hugging_face.py)."""

import json
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import hub, model
from hugging_face import HuggingFace
from rendering import rendered

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16",
}
INDEX = {"metadata": {"total_size": 16060522496}, "weight_map": {}}
FILES = {
    "/org/model/resolve/main/config.json": json.dumps(LLAMA),
    "/org/model/resolve/main/model.safetensors.index.json": json.dumps(INDEX),
    "/org/model/resolve/v2/config.json": json.dumps({**LLAMA, "num_hidden_layers": 16}),
    "/org/model/resolve/v2/model.safetensors": 8 * 2**30,
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("HF_TOKEN", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_the_configuration_and_the_size_by_the_index():
    with HuggingFace(FILES) as host:
        assert hub.Hub(host.url).facts("org/model") == (LLAMA, 16060522496)


def test_the_size_of_one_file_at_a_revision():
    with HuggingFace(FILES) as host:
        config, size = hub.Hub(host.url + "/").facts("org/model", "v2")
    assert (config["num_hidden_layers"], size) == (16, 8 * 2**30)


def test_a_model_without_safetensors_has_no_size():
    with HuggingFace({"/org/model/resolve/main/config.json": json.dumps(LLAMA)}) as host:
        assert hub.Hub(host.url).facts("org/model") == (LLAMA, 0)


def test_the_token_goes_to_the_host_alone(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    there = "/org/model/resolve/main/config.json"
    with HuggingFace({"/moved": json.dumps(LLAMA), there: "-> /moved"}, token="hf_secret") as host:
        assert hub.Hub(host.url).json(host.url + there) == LLAMA
        assert {one.token for one in host.seen} == {"Bearer hf_secret"}
        host.seen.clear()
        host.files |= {there: f"-> {host.storage}/stored", "/stored": "{}"}
        host.token = ""
        hub.Hub(host.url).json(host.url + there)
        assert [one.token for one in host.seen] == ["Bearer hf_secret", None]


def test_the_platforms_proxy_where_the_environment_has_none(monkeypatch):
    with HuggingFace(FILES) as host:
        proxied = hub.Hub("http://mirror.invalid", {"http_proxy": host.url, "no_proxy": None})
        assert proxied.facts("org/model") == (LLAMA, 16060522496)
        assert host.seen[0].path.startswith("http://mirror.invalid/org/model/")
        monkeypatch.setenv("no_proxy", "mirror.invalid")
        with pytest.raises(hub.Unavailable, match="can't be reached"):
            proxied.facts("org/model")


@pytest.mark.parametrize(
    ("name", "token", "line"),
    [
        ("org/other", "", "no such model (404)"),
        ("org/model", "wrong", "the token in HF_TOKEN may not read it (401)"),
        ("org/model", None, "only with a token (401): set HF_TOKEN in the environment"),
    ],
)
def test_a_refusal_in_words(monkeypatch, name, token, line):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with HuggingFace(FILES, token="" if token == "" else "hf_right") as host:
        with pytest.raises(hub.Unavailable) as caught:
            hub.Hub(host.url).facts(name)
        assert line in str(caught.value)
        assert "wrong" not in str(caught.value)


def test_what_is_no_configuration():
    with HuggingFace({"/a": "[]", "/b": "<html>", "/c": "-> /c"}) as host:
        for path, line in {"/a": "is no dictionary", "/b": "is no dictionary", "/c": "leads on and on"}.items():
            with pytest.raises(hub.Unavailable, match=line):
                hub.Hub(host.url).json(host.url + path)


# --- The action ------------------------------------------------------------------------------------


def facts(**arguments):
    """Run the action; what it shows, and its result."""
    task = SimpleNamespace(action="modelyard.core.facts", args=arguments, check_mode=False, diff=False, async_val=0)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    action = action_loader.get(
        "modelyard.core.facts",
        task=task,
        connection=connection,
        play_context=None,
        loader=None,
        templar=None,
        shared_loader_obj=None,
    )
    said = []
    action.tell = said.append
    return said, action.run(task_vars={})


def test_what_to_paste():
    profiles = {"vllm_enabled_profiles": ["vllm", "large"], "vllm_profiles": {"large": {"model_revision": "v2"}}}
    with HuggingFace(FILES) as host:
        said, result = facts(rendered=rendered(("vllm",), vllm_model="org/model", **profiles), endpoint=host.url)
    text = "\n".join(said)
    assert "# org/model: 14.96 GiB in its files; 14.96 GiB by its configuration" in text
    assert "vllm_model: org/model\nvllm_model_config: {" in text
    assert "vllm_model_weight_bytes: 16060522496" in text
    assert "vllm_profiles:\n  large:\n    model: org/model\n    model_revision: v2\n    model_config: {" in text
    config = result["models"]["org/model"]["model_config"]
    assert "rms_norm_eps" not in config
    assert model.read(config) == model.read({**LLAMA, "num_hidden_layers": 16})


def test_a_model_that_cant_be_had_fails_after_the_others():
    with HuggingFace(FILES) as host:
        with pytest.raises(AnsibleActionFail, match=r"org/none: .*no such model \(404\)"):
            facts(models=["org/none", "org/model"], endpoint=host.url)
        assert [one.path for one in host.seen][-1] == "/org/model/resolve/main/model.safetensors.index.json"


# --- A URL as vllm_model_config ----------------------------------------------------------------------


def test_a_url_of_the_configuration(vllm):
    with HuggingFace({"/config.json": json.dumps({**LLAMA, "num_hidden_layers": 80}), "/html": "<html>"}) as host:
        given = {"model": "org/own", "adapter_base_models": ["org/own"]}
        assert any("does not fit" in line for line in vllm(**given, model_config=f"{host.url}/config.json")[1])
        assert any("no such file (404)" in line for line in vllm(**given, model_config=f"{host.url}/none")[1])
        assert any("is no dictionary in JSON" in line for line in vllm(**given, model_config=f"{host.url}/html")[1])
        away = f"{host.url}/away"
    server, lines = vllm(**given, startup_seconds=900, model_config=away)
    assert lines == []
    assert any("vllm_model_config was not read" in line for line in server["notices"])
    assert server["sizing"]["verdict"] == "not checked"
