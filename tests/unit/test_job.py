"""Messages by where a run was started: in a job of AWX, or at a shell."""

from types import SimpleNamespace

import pytest
from ansible._internal._datatag._tags import Origin
from ansible.plugins.loader import action_loader
from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import problem

SURVEY = Origin(path="/runner/env/extravars").tag("abc")


@pytest.fixture(params=["JOB_ID", "AWX_JOB_ID"])
def awx(request, shell, monkeypatch):
    """Be a job of AWX."""
    monkeypatch.setenv(request.param, "4711")
    if request.param == "JOB_ID":
        monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/tmp/awx_4711_x")


@pytest.fixture
def shell(monkeypatch):
    """Be a run at a shell."""
    for name in ("JOB_ID", "AWX_JOB_ID", "AWX_PRIVATE_DATA_DIR", "AWX_ISOLATED_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_wrong_answer_of_a_survey_is_said_to_be_one(awx):
    told = "(set at launch, in the survey or prompt of the job or in its template's variables)"
    assert problem("vllm_replicas", SURVEY, "must be a number").endswith(told)
    here = Origin(path="/project/hosts.yml", line_num=3).tag("abc")
    assert problem("vllm_replicas", here, "must be a number").endswith("hosts.yml:3)")


def test_what_ansible_runner_was_given_outside_awx_is_said_to_be_its_file(shell):
    assert problem("vllm_replicas", SURVEY, "must be a number").endswith("/env/extravars)")


def test_a_job_of_grid_engine_or_of_a_ci_is_a_shell(shell, monkeypatch):
    monkeypatch.setenv("JOB_ID", "12")
    assert (job.number(), job.folder()) == ("", "")


def test_a_job_is_told_its_template_and_what_to_set_at_launch(awx):
    assert job.playbook("rollback", "release", 7) == (
        "the job template of playbooks/rollback.yml, with release=7 at launch"
    )
    assert "Kubernetes credential" in job.cluster_credential()


def test_a_shell_is_told_the_command(shell):
    assert job.playbook("rollback", "release", 7) == "playbooks/rollback.yml -e release=7"
    assert "job" not in job.cluster_credential() + job.aws_credential()


def test_a_page_below_a_jobs_own_folder_is_said_to_go_with_it(awx, monkeypatch, tmp_path):
    monkeypatch.setenv("AWX_ISOLATED_DATA_DIR", str(tmp_path / "job/artifacts/4711"))
    said: list[str] = []
    page = action_loader.get("modelyard.core.report_page", class_only=True)
    for folder, warned in (("job/project", True), ("kept", False)):
        action = page.__new__(page)
        action._display = SimpleNamespace(display=lambda line: None, warning=said.append)
        action._handed, action._clusters, said[:] = {}, 1, []
        action.perform({"path": str(tmp_path / folder / "page.html"), "reports": []}, {})
        assert [line.endswith("set report_html to a path that is kept (docs/awx.md)") for line in said] == [
            True
        ] * warned
