"""Records of releases: what is packed into one, what is never, and where a run comes from."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    archive,
    client,
    hiding,
    provenance,
    releases,
    rollback,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import CLUSTER
from delivering import rendering
from rendering import rendered

ABOUT = {"by": "ann", "process": "p", "inventory": "eks", "commit": "abc", "clean": "yes"}
ABOUT |= {"versions": {"modelyard": "0.1.0", "ansible-core": "2.21.5", "images": ["vllm:1"]}}
SAID = {**ABOUT, "number": 7, "time": "2026-11-29T11:00:00Z", "result": "running", "delivery": "direct"}
SAID |= {"components": ["vllm", "irsa"], "changes": ["update Deployment ml-models/vllm: spec.replicas 1 -> 2"]}
TOKEN = "hf_" + "a1" * 12


def config_map(**data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "ml"}, "data": data}


def stored(number: int, packed: bytes) -> dict[str, str]:
    return {archive.name_of(number, part): text for part, text in enumerate(archive.chunks(packed), 1)}


def test_what_is_written_is_read():
    packed = archive.pack([config_map(a="1")])
    record, objects = archive.read(7, archive.written(SAID, packed), stored(7, packed))
    assert record == {**SAID, "ended": "", "reason": "", "rollback_to": 0}
    assert archive.unpack(objects) == [config_map(a="1")]
    # As kubectl takes it.
    assert json.loads(gzip.decompress(packed))["kind"] == "List"


def test_a_run_that_has_ended_says_how():
    packed = archive.pack([])
    data = archive.ended(archive.written(SAID, packed), "failed", "2026-11-29T11:05:00Z", "it can't be pulled")
    record, _ = archive.read(7, data, stored(7, packed))
    assert [record[key] for key in ("result", "ended", "reason")] == [
        "failed",
        "2026-11-29T11:05:00Z",
        "it can't be pulled",
    ]


def test_what_does_not_fit_one_config_map_is_cut_and_put_together_again():
    big = config_map(a=os.urandom(1_000_000).hex())
    packed = archive.pack([big])
    texts = stored(7, packed)
    assert list(texts) == ["modelyard-release-0007", "modelyard-release-0007-2"]
    # With both long texts at their longest, a ConfigMap stays below what the API server takes.
    long = {**SAID, "changes": ["é" * 300_000], "reason": "x" * 300_000}
    data = archive.written(long, packed)
    assert sum(len(text.encode()) for text in data.values()) + archive.CHUNK < 1024 * 1024
    assert archive.unpack(archive.read(7, data, texts)[1]) == [big]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"by": "eve"}, "somebody has edited it"),
        ({"result": "fine"}, "somebody has edited it"),
        ({"number": "8"}, "somebody has edited it"),
        ({"parts": None}, "parts is missing"),
    ],
)
def test_a_record_that_somebody_has_edited_is_damaged(change, told):
    packed = archive.pack([])
    data = {key: text for key, text in (archive.written(SAID, packed) | change).items() if text is not None}
    with pytest.raises(archive.Damaged, match=told):
        archive.read(7, data, stored(7, packed))


@pytest.mark.parametrize("text", ["", "!", "aGVsbG8="])
def test_a_record_whose_objects_are_gone_or_no_archive_is_damaged(text):
    packed = archive.pack([])
    with pytest.raises(archive.Damaged):
        archive.read(7, archive.written(SAID, packed), {archive.name_of(7): text})


@pytest.mark.parametrize(
    "packed",
    [b"", b"x", gzip.compress(b"x"), gzip.compress(b"[]"), gzip.compress(b'{"items":[1]}')],
    ids=["nothing", "no archive", "no JSON", "a list", "no object"],  # an archive has the time in it
)
def test_what_is_no_list_of_objects_is_damaged(packed):
    with pytest.raises(archive.Damaged):
        archive.unpack(packed)


# --- Credentials -----------------------------------------------------------------------------------

PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("before", "secret", "after"),
    [
        ("curl -H 'Authorization: Bearer ", "abcdefghijklmnop1", "' x"),
        ("export X=", TOKEN, "\n"),
        ("key ", "AKIA" + "A" * 16, ""),
        ("https://", "user:p4ss", "@git.internal/x"),
        ("password: ", "hunter2!", "\nnext: 1"),
        ('{"api_key": "', "abc123", '"}'),
        ("", PEM, "\n"),
        ("ghp: ", "ghp_" + "a" * 36, ";"),
    ],
)
def test_what_has_the_form_of_a_credential_is_in_no_record(before, secret, after):
    item = config_map(text=f"{before}{secret}{after}")
    assert secret not in gzip.decompress(archive.pack([item])).decode()
    kept = archive.unpack(archive.pack([item]))[0]
    assert kept["data"]["text"] == f"{before}{hiding.MARK}{after}"
    assert hiding.fill(kept, None, item) == item
    data = archive.written(
        {**SAID, "changes": [f"update: {before}{secret}{after}"], "reason": before + secret + after}, b""
    )
    assert secret not in json.dumps(data)


def test_credentials_by_their_names_are_in_no_record():
    container = {
        "name": "c",
        "args": ["--api-key", "sesame", "--hf-token=sesame", "--port", "80"],
        "env": [{"name": "DB_PASSWORD", "value": "sesame"}, {"name": "PORT", "value": "80"}],
    }
    hidden = hiding.hide(container)
    assert "sesame" not in json.dumps(hidden)
    assert hidden["args"][3:] == ["--port", "80"]
    # The order of variables does not matter.
    moved = {**container, "env": container["env"][::-1]}
    assert hiding.fill(hidden, moved) == container


@pytest.mark.parametrize(
    "text",
    [
        "--api-key=$(VLLM_API_KEY)",
        "token = os.environ['HF_TOKEN']",
        "token=$(cat /var/run/token1)",
        "max_tokens: 4096",
        "secret: name",
        "image@sha256:0123456789abcdef",
        "ssh://git@git.internal/ml.git",
        "docker://registry/image@sha256:01",
    ],
)
def test_what_only_speaks_of_credentials_is_kept(text):
    assert hiding.hide([text, {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/t"}])[0] == text


def test_nothing_of_what_is_rendered_by_default_is_hidden():
    objects = [item for part in rendered(off=True)["parts"] for item in part["objects"]]
    assert objects
    assert [item for item in objects if hiding.hide(item) != item] == []


def test_a_secret_is_in_no_record():
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    assert archive.unpack(archive.pack([secret])) == []


def test_a_text_that_changed_around_a_credential_gets_the_one_of_now():
    then, now = config_map(url="https://u:old1@a/x"), config_map(url="https://u:new2@b/y")
    assert hiding.fill(hiding.hide(then), now)["data"]["url"] == "https://u:new2@a/x"


def test_a_credential_that_is_nowhere_is_lost():
    with pytest.raises(hiding.Lost, match="https"):
        hiding.fill(
            hiding.hide(config_map(url="https://u:old1@a/x")), None, config_map(url="https://a/x"), config_map()
        )


# --- Where a run comes from ------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_run_knows_its_inventory_and_the_commit_of_it(tmp_path):
    folder = tmp_path / "secret-customer" / "repository" / "inventories" / "eks"
    folder.mkdir(parents=True)
    (folder / "hosts.yml").write_text("clusters:\n")
    known = {"inventory_dir": str(folder), "inventory_file": str(folder / "hosts.yml")}
    outside = provenance.of(known, "ann@host")
    assert [outside[key] for key in ("by", "inventory", "commit", "clean")] == [
        "ann@host",
        "eks/hosts.yml",
        "unknown",
        "unknown",
    ]
    top = folder.parents[1]
    git(top, "init", "-q")
    assert provenance.of(known, "")["commit"] == "unknown"
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "one")
    found = provenance.of(known, "")
    assert [found[key] for key in ("inventory", "clean")] == ["inventories/eks/hosts.yml", "yes"]
    assert found["commit"] == git(top, "rev-parse", "HEAD")
    (folder / "group_vars.yml").write_text("")
    assert provenance.of(known, "")["clean"] == "no"
    assert found["versions"].keys() == {"modelyard", "ansible-core", "kubernetes.core"}
    assert "unknown" not in found["versions"].values()


def test_a_job_of_awx_knows_who_started_it_and_its_commit():
    known = {"awx_user_name": "ann", "awx_project_revision": "abc", "awx_inventory_name": "production"}
    found = provenance.of({**known, "inventory_dir": None, "inventory_file": None}, "runner@pod (AWX job 3)")
    assert found["by"] == "ann, as runner@pod (AWX job 3)"
    assert [found[key] for key in ("inventory", "commit", "clean")] == ["production", "abc", "unknown"]


def test_without_git_nothing_is_known_of_the_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.of({"inventory_dir": str(tmp_path)}, "")["commit"] == "unknown"


def test_the_last_release_that_succeeded_is_of_a_component():
    records = [
        {"number": number, "result": result, "components": components}
        for number, result, components in (
            (4, "failed", ["vllm", "triton"]),
            (3, "succeeded", ["triton"]),
            (2, "succeeded", ["vllm", "triton"]),
        )
    ]
    assert [releases.last_succeeded(records, name, 4) for name in ("triton", "vllm", "irsa")] == [3, 2, 0]
    assert releases.last_succeeded(records, "triton", 2) == 0


# --- Records that others have touched ---------------------------------------------------------------


class ConfigMaps:
    """The ConfigMaps of a namespace, as far as records ask for them."""

    now = None

    def __init__(self) -> None:
        self.items: dict[str, dict] = {}

    def list(self, version, kind, namespace, selector):
        wanted = dict(one.split("=") for one in selector.split(","))
        return [item for item in self.items.values() if wanted.items() <= item["metadata"]["labels"].items()]

    def request(self, method, path, query=None, body=None, content_type=""):
        name = path.rpartition("/")[2]
        if method == "POST":
            name = body["metadata"]["name"]
            if name in self.items:
                raise client.ApiError(409, b"{}")
            self.items[name] = body
        elif method == "PATCH":
            self.items[name]["data"] |= body["data"]
        return self.items.pop(name) if method == "DELETE" else self.items.get(name)

    def labels(self, number: int) -> dict:
        return self.items[archive.name_of(number)]["metadata"]["labels"]


def of(*roles: str) -> dict:
    return rendering(api_server="https://k8s.internal", apply_releases=2) | {"roles": list(roles) or ["irsa"]}


def begin(place: ConfigMaps, *roles: str, result: str = "succeeded") -> int:
    now = of(*roles)
    number = releases.begin(place, now, ABOUT, ["update"], [])
    assert releases.finish(place, now, number, result) == ""
    return number


def listed(place: ConfigMaps) -> tuple[list[int], list[str]]:
    damaged: list[str] = []
    found = releases.listed(place, of(), damaged)
    return [one["number"] for one in found], damaged


def test_a_record_without_its_clusters_name_stops_no_run_and_is_told():
    place = ConfigMaps()
    assert [begin(place), begin(place)] == [1, 2]
    del place.labels(1)[CLUSTER]
    assert [begin(place), begin(place)] == [3, 4]
    told = "release 1 (ConfigMap modelyard-release-0001) is damaged, and left out: its label modelyard/cluster is gone"
    assert listed(place) == ([4, 3], [told])


def test_a_name_that_is_taken_by_what_is_no_record_costs_a_number_and_no_run():
    place = ConfigMaps()
    assert begin(place) == 1
    place.labels(1).clear()
    place.items[archive.name_of(3)] = {"metadata": {"name": archive.name_of(3), "labels": {}}}
    assert [begin(place), begin(place)] == [2, 4]
    assert listed(place) == ([4, 2], [])


def test_what_a_failed_run_replaced_is_brought_back_release_by_release():
    place = ConfigMaps()
    assert rollback.advice(place, of("triton", "vllm")) == ""
    begin(place, "triton", "vllm")
    failed = begin(place, "triton", "vllm", result="failed")
    assert rollback.advice(place, of("triton", "vllm"), failed) == "  Go back: playbooks/rollback.yml -e release=1"
    begin(place, "vllm")
    # Of release 1 vLLM is older than what ran.
    steps = "-e release=1 (for triton), -e release=3 (for vllm)"
    assert rollback.advice(place, of("triton", "vllm")).endswith(f"once for each, in this order: {steps}")


def test_a_damaged_record_is_told_where_a_run_looks_for_what_ran_before_it():
    place, said = ConfigMaps(), []
    begin(place)
    begin(place)
    place.items[archive.name_of(2)]["data"]["by"] = "eve"
    failed = begin(place, result="failed")
    told = "release 2 (ConfigMap modelyard-release-0002) is damaged, and left out: somebody has edited it"
    assert rollback.advice(place, of(), failed) == f"  Go back: playbooks/rollback.yml -e release=1  {told}"
    del place.items[archive.name_of(1)]
    assert rollback.advice(place, of(), failed) == f"  {told}"
    done, message, _ = rollback.bring_back(place, of(), failed, None, said.append)
    assert not done
    assert message.endswith(f"what is written stays.  {told}")
