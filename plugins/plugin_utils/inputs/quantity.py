"""Reads and adds Kubernetes quantities (``4``, ``500m``, ``14Gi``); knows no resource."""

from __future__ import annotations

import re
from decimal import Decimal

# Written here because kubernetes.utils.quantity takes in 'nan', '1_000' and ' 1', and importing it costs 0.25 s in
# every task that computes with quantities. The unit tests compare the two.
# Grammar: k8s.io/apimachinery/pkg/api/resource/quantity.go
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([KMGTPE]i)|([numkMGTPE]))?", re.ASCII)
_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {letter: Decimal(1000) ** power for power, letter in enumerate("num kMGTPE", start=-3) if letter != " "}

MOST = 2**63 - 1
MIB = 1024**2
GIB = 1024**3


def parse(value: object) -> Decimal:
    """Read a quantity.

    Args:
        value: a number, or text in Kubernetes' grammar.

    Returns:
        the amount in base units (bytes, cores, pieces).

    Raises:
        ValueError: it is no quantity.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is no quantity")
    match = _QUANTITY.fullmatch(str(value))
    if not match:
        raise ValueError(f"{value!r} is no quantity")
    number, exponent, binary, decimal = match.groups()
    amount = Decimal(number + (exponent or "")) * _BINARY.get(binary, 1) * _DECIMAL.get(decimal, 1)
    if abs(amount) > MOST:
        # Kubernetes would take the largest that there is.
        raise ValueError(f"{value!r} is no quantity: it is more than {MOST}")
    return amount


def mebibytes(size: Decimal) -> str:
    """Write bytes as a quantity of whole mebibytes, rounded up: ``9216Mi``."""
    return f"{-(-int(size) // MIB)}Mi"


def total(*sizes: object) -> str:
    """Add up sizes, as a quantity of mebibytes; Gi where it comes out even."""
    size = sum((parse(item) for item in sizes), Decimal(0))
    return f"{int(size) // GIB}Gi" if size and size % GIB == 0 else mebibytes(size)
