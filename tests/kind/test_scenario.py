"""The molecule scenario of the whole platform on kind, on the cluster of these tests."""

from test_molecule import STEPS, molecule


def test_kind(kind, tmp_path):
    assert molecule(kind, "kind", tmp_path, SCENARIO_KEEP="1") >= STEPS | {"check"}
