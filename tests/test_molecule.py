"""Every molecule scenario as one test: molecule test --scenario-name NAME.

The single roles' scenarios share the tests' cluster; the default scenario and kind's (kind/test_scenario.py) start and
remove their own.
"""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted(file.parent.name for file in ROOT.glob("molecule/*/molecule.yml"))
WHOLE = {"default", "kind"}
STEPS = {"create", "converge", "idempotence", "verify", "destroy"}


def molecule(cluster, name, folder, **env):
    """Run a scenario on a cluster; the output of one that fails is the test's message."""
    more = {
        "SCENARIO_CLUSTER": cluster.home.name,
        "SCENARIO_PORT": str(cluster.port),
        # Molecule's own variable: what it remembers of a scenario must not outlive the test.
        "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / name),
        "NO_COLOR": "1",
        **env,
    }
    done = cluster.run(Path(sys.executable).parent / "molecule", "test", "--scenario-name", name, env=more)
    text = done.stdout + done.stderr
    # It passes a step whose playbook is missing, and one that it skips.
    recap = re.search(rf"^{name} .*: (actions=.*)$", text, re.MULTILINE)
    assert recap, text
    assert {"skipped=0", "missing=0", "failed=0"} <= set(recap.group(1).split()), text
    return set(re.findall(rf"^{name} > (\w+): Executed: Successful$", text, re.MULTILINE))


def test_every_role_that_can_be_run_alone_has_a_scenario():
    alone = {file.stem for file in ROOT.glob("playbooks/*.yml")} & {folder.name for folder in ROOT.glob("roles/*")}
    # It touches no cluster.
    alone -= {"awx"}
    assert alone
    assert set(SCENARIOS) == {*WHOLE, *alone}


def test_default(other_cluster, tmp_path):
    steps = molecule(other_cluster, "default", tmp_path)
    assert steps >= STEPS | {"check", "side_effect"}
    assert not other_cluster.home.exists()


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in WHOLE])
def test_role(clean_platform, name, tmp_path):
    steps = molecule(clean_platform, name, tmp_path, SCENARIO_KEEP="1")
    assert steps >= STEPS
