"""Every playbook as an AWX job, and a job's output under the runners of older AWX nodes."""

import pytest
from awx_jobs import BIN, Job
from services import python_of

RUNNERS = {"2.4.0": lambda: python_of("runner").parent / "ansible-runner", "2.4.3": lambda: BIN / "ansible-runner"}


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A job that needs no cluster, for one that is right and two that are wrong."""
    hosts = {"good": {}, "bad": {"vllm_replicas": "many", "triton_replica": 3}, "worse": {"vllm_replicas": "many"}}
    return Job(tmp_path_factory.mktemp("offline") / "job", hosts)


@pytest.mark.parametrize("version", RUNNERS)
def test_what_a_task_shows_and_messages_can_be_read(offline, version):
    assert offline.run(version, {}, "playbooks/preflight.yml", runner=RUNNERS[version]()) == 2, offline.output
    lines = offline.printed().splitlines()
    # Of a table that the task shows while it works.
    assert [line for line in lines if line.startswith("  judge-vllm ")]
    assert [line for line in lines if "errantly" in line] == []
    # Of the refusal, each problem on a line of its own.
    begin = lines.index("fatal: [bad]: FAILED! => ")
    told = [line.strip() for line in lines[begin + 1 : begin + 6]]
    assert told[:3] == ["changed: false", "msg: |-", "cluster bad: 2 problems:"]
    assert told[3].startswith("1. triton_replica is 3: no such variable")
    assert told[4].startswith("2. vllm_replicas is 'many': must be a whole number")
    # A long message is not broken by Ansible.
    begin = lines.index("fatal: [worse]: FAILED! => ")
    assert "cluster worse: vllm_replicas is" in lines[begin + 2]
    assert "set at <inventory script output from" in lines[begin + 2]
    # Of the run, what became of each cluster.
    assert "1 of 3 clusters succeeded; the others again: --limit bad,worse" in lines


def test_the_report_of_a_failure_is_made_and_fails(offline):
    page = offline.folder / "project/page.html"
    given = {"report_html": str(page), "report_fail": "true"}
    assert offline.run("report", {}, "playbooks/report.yml", **given) == 2, offline.output
    assert page.exists()
    assert "it ends as failed since a step before it has failed" in offline.said()
    assert f"{page} is thrown away with this job" in offline.said()
