"""No credential that a user can set ends up in an object, log line, report or file: each is a marker, and all markers are searched."""

import base64
import json
import tempfile
import time
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import aws_api
import model_servers
import pytest
import services
import yaml

ROOT = Path(__file__).resolve().parent.parent
MARKS = {
    "Hugging Face token": f"hf_{uuid4().hex}",
    "vLLM's API key": uuid4().hex,
    "registry password": uuid4().hex,
    "repository password": uuid4().hex,
    "repository SSH key": uuid4().hex,
    "AWS access key": f"AKIA{uuid4().hex[:16].upper()}",
    "AWS secret key": uuid4().hex,
    "AWS session token": uuid4().hex,
}
# What the tests themselves keep below the project.
OWN_FOLDERS = {".git", ".venv", ".cache", ".local"}


def forms(mark):
    """A mark as it may be written: itself, in a URL, and in base64 wherever in the encoded text it begins."""
    found = {mark, quote(mark, safe="")}
    for before in range(3):
        encoded = base64.b64encode(b"?" * before + mark.encode() + b"?" * ((3 - before - len(mark)) % 3)).decode()
        # The characters at both ends also hold bits of the neighbours.
        found.add(encoded[4 if before else 0 : -4 if (before + len(mark)) % 3 else None])
    return found


def search(places, marks):
    """Name the marks that are in places ({name: text}): (mark, place)."""
    return sorted(
        (name, place)
        for name, mark in marks.items()
        for place, text in places.items()
        if any(form in text for form in forms(mark))
    )


def on_the_cluster(cluster):
    """Every object but the Secrets, its annotations and managedFields with it, and all Events."""
    found = {key: json.dumps(item) for key, _, item in cluster.objects() if not key.startswith("Secret/")}
    return found | {"Events": json.dumps(cluster.api("GET", "/api/v1/events"))}


def on_disk(folder, since=0.0, without=()):
    """Every file below a folder, but for some of its folders, that was written since then."""
    files = (
        file
        for top in folder.iterdir()
        if top.name not in without
        for file in ([top] if top.is_file() else top.rglob("*"))
    )
    return {
        str(file.relative_to(folder)): file.read_bytes().decode(errors="replace")
        for file in files
        if file.is_file() and file.stat().st_mtime >= since
    }


@pytest.fixture
def short_tmp_path():
    """A folder with a name so short that Ansible's socket can be below it: tmp_path's are too long."""
    with tempfile.TemporaryDirectory(prefix="left-") as folder:
        yield Path(folder)


@pytest.fixture
def planted(clean_platform, cloud, tmp_path, short_tmp_path):
    """A cluster whose Secrets hold marks, and a function that runs playbooks with all the others; it knows what was said."""
    cluster, given, left = clean_platform, tmp_path / "given", short_tmp_path
    for folder in (given, left / "home", left / "tmp"):
        folder.mkdir(parents=True)
    cluster.kubectl("create", "namespace", "ml-models")
    secret = ("create", "secret", "-n", "ml-models")
    cluster.kubectl(*secret, "generic", "hf", f"--from-literal=token={MARKS['Hugging Face token']}")
    cluster.kubectl(*secret, "generic", "vllm", f"--from-literal=key={MARKS["vLLM's API key"]}")
    cluster.kubectl(
        *(*secret, "docker-registry", "pull", "--docker-server=registry.example.com"),
        *("--docker-username=puller", f"--docker-password={MARKS['registry password']}"),
    )
    cluster.kubectl("create", "serviceaccount", "runner", "-n", "default")
    binding = (
        "create",
        "clusterrolebinding",
        "runner",
        "--clusterrole=cluster-admin",
        "--serviceaccount=default:runner",
    )
    cluster.kubectl(*binding)
    token = cluster.kubectl("create", "token", "runner", "-n", "default").stdout.strip()
    authority = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority"]
    variables = {
        "platform_api_server": cluster.url,
        "platform_aws_account_id": aws_api.ACCOUNT,
        "platform_accepted_placeholders": [aws_api.ACCOUNT],
        "platform_connection": {},
        "platform_hf_token_secret": {"name": "hf", "key": "token"},
        "platform_image_pull_secrets": ["pull"],
        "vllm_api_key_secret": {"name": "vllm", "key": "key"},
        "irsa_oidc_issuer": cluster.api("GET", "/.well-known/openid-configuration")["issuer"],
        "irsa_buckets": {"my-triton-models": {}},
        "tree_repository": str(left / "repository"),
    }
    environment = {
        **cloud.env,
        "AWS_ACCESS_KEY_ID": MARKS["AWS access key"],
        "AWS_SECRET_ACCESS_KEY": MARKS["AWS secret key"],
        "AWS_SESSION_TOKEN": MARKS["AWS session token"],
        "ANSIBLE_LOG_PATH": str(left / "ansible.log"),
        "ANSIBLE_REMOTE_TEMP": str(left / "remote"),
        "HOME": str(left / "home"),
        "KUBECACHEDIR": str(left / "kube"),
        "TMPDIR": str(left / "tmp"),
    }
    by_token = {"K8S_AUTH_HOST": cluster.url, "K8S_AUTH_API_KEY": token, "K8S_AUTH_SSL_CA_CERT": authority}

    def run(*playbooks, connection_by_variable=False, check=True, **changes):
        if connection_by_variable:
            changes["platform_connection"] = {"host": cluster.url, "api_key": token, "ca_cert": authority}
        vault = given / "vault.json"
        vault.write_text(json.dumps({**variables, **changes}))
        first, *more = (f"playbooks/{name}.yml" for name in playbooks)
        done = cluster.playbook(
            *(first, *more, "-e", f"@{vault}", "-vvv", "--diff"),
            env={**environment, **({} if connection_by_variable else by_token)},
            check=check,
        )
        run.said[" ".join(playbooks)] = done.stdout + done.stderr
        return done

    run.said, run.marks, run.left, run.cluster = {}, {**MARKS, "cluster token": token}, left, cluster
    return run


@pytest.fixture
def asked(tmp_path):
    """A server that asks for vLLM's API key: the variables with which smoke.yml asks it."""
    port, key = services.free_port(), MARKS["vLLM's API key"]
    words = ["serve", "TheBloke/Mistral-7B-v0.1-AWQ", f"--port={port}"]
    server = model_servers.StandIn("vllm", words, {"VLLM_API_KEY": key}, tmp_path)
    url = f"http://127.0.0.1:{port}"
    try:
        services.wait_for(f"{url}/health", server.process, server.file)
        yield {"smoke_urls": {"vllm": url}, "smoke_keys": {"vllm": key}}
    finally:
        server.process.kill()
        server.ended()


def test_a_mark_is_found_wherever_it_is_written(cluster, tmp_path):
    mark = {"it": uuid4().hex}
    assert search({"nowhere": "a" * 64}, mark) == []
    assert search({"plain": f"x{mark['it']}y"}, mark) == [("it", "plain")]
    for before in ("", "a", "ab", "abc"):
        for after in ("", "z", "zz"):
            text = base64.b64encode(f"{before}{mark['it']}{after}".encode()).decode()
            assert search({"encoded": f"x{text}y"}, mark) == [("it", "encoded")]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"\xff" + mark["it"].encode())
    assert search(on_disk(tmp_path), mark) == [("it", "folder/file")]
    cluster.kubectl("create", "configmap", "leak", "-n", "default", f"--from-literal=key={mark['it']}")
    assert ("it", "ConfigMap/default/leak") in search(on_the_cluster(cluster), mark)
    cluster.kubectl("delete", "configmap", "leak", "-n", "default")


def test_no_credential_is_in_an_object_a_log_line_a_report_or_a_file(planted, cloud, asked):
    started = time.time()
    password = {"username": "git", "password": planted.marks["repository password"]}
    # One process for all that connects and writes; identity says which chains close, smoke that simulated nodes answer nothing.
    done = planted(
        *("render", "site", "aws", "identity", "smoke"),
        argocd_apps_repository=password,
        irsa_report_strict=False,
        **asked,
    )
    assert done.stdout.count("vllm: POST /v1/completions: right, after") == 1
    # The way to Argo CD, which is not there to sync: the Secret and the Applications are written, and the run ends with a report.
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{planted.marks['repository SSH key']}\n-----END OPENSSH PRIVATE KEY-----\n"
    over = planted(
        "handover",
        connection_by_variable=True,
        check=False,
        platform_delivery="gitops",
        apply_handover_timeout=1,
        argocd_apps_repo_url="git@git.internal:ml/platform.git",
        argocd_apps_repository={"ssh_private_key": key},
    )
    assert "Argo CD has not synced" in " ".join((over.stdout + over.stderr).split())

    # What must have been there to leak: the Secret is written, the pods name theirs, AWS's side stands.
    secrets = {key: json.dumps(item) for key, _, item in planted.cluster.objects() if key.startswith("Secret/")}
    written = {name for name, _ in search(secrets, planted.marks)}
    assert written == {"Hugging Face token", "vLLM's API key", "registry password", "repository SSH key"}
    on_aws = {"AWS": json.dumps(aws_api.everything(cloud))}
    assert "my-vllm-s3-read" in on_aws["AWS"]
    on_cluster = on_the_cluster(planted.cluster)
    assert '"secretKeyRef": {"name": "hf"' in on_cluster["Deployment/ml-models/vllm"].replace('"key": "token", ', "")
    files = on_disk(planted.left)
    assert "TASK [" in files["ansible.log"]
    assert any(name.startswith("repository/") for name in files)

    everywhere = {**planted.said, **on_aws, **on_cluster, **files, **on_disk(ROOT, started, OWN_FOLDERS)}
    assert search(everywhere, planted.marks) == []
