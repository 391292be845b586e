"""The molecule scenario of the whole platform on kind, on a cluster of its own."""

from test_molecule import STEPS, molecule


def test_kind(other_kind, tmp_path):
    assert molecule(other_kind, "kind", tmp_path) >= STEPS | {"check"}
    assert not other_kind.kubeconfig.exists()
