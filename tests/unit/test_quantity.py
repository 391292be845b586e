"""Quantities, compared with the Kubernetes client's own reader."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from kubernetes.utils.quantity import parse_quantity


@pytest.mark.parametrize(
    "text", ["4", 4, 0.5, "500m", "14Gi", "29317Mi", "1e3", "1E", "2k", "1.5Gi", ".5", "3n", "1Ei"]
)
def test_reads_as_kubernetes_does(text: object) -> None:
    assert quantity.parse(text) == parse_quantity(text)


@pytest.mark.parametrize("text", ["", "4gi", "4 Gi", "Gi", "abc", "nan", "1_000", "1GiB", None, True, ["4"], "4K i"])
def test_refuses_what_is_no_quantity(text: object) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("sizes", "sum_"), [(["8Gi", "1Gi"], "9Gi"), (["1Gi", "512Mi"], "1536Mi"), (["1500k"], "2Mi"), ([], "0Mi")]
)
def test_adds_up(sizes: list[str], sum_: str) -> None:
    assert quantity.total(*sizes) == sum_
