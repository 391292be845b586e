"""What Kubernetes makes of ``$`` in the words of a container's command line; knows no setting.

It replaces ``$(NAME)`` by the value of a variable of the container, leaves that of another one alone, and makes ``$`` of ``$$``
(k8s.io/kubernetes/third_party/forked/golang/expansion).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = r"\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)"
_PAIR = re.compile(rf"\$\$(?!{_NAME})")
_READ = re.compile(rf"\$\$|\${_NAME}")


def kept(word: str) -> str:
    """Write a word so that it arrives as it is, but for ``$(NAME)``, and ``$$(NAME)``, which is Kubernetes' way to write ``$(NAME)``."""
    return _PAIR.sub("$$$$", word)


def expanded(word: str, environment: Mapping[str, object]) -> str | None:
    """Give what the program reads of a word.

    Args:
        word: as ``kept`` takes it.
        environment: the container's variables; what is no text (``valueFrom``) is not known.

    Returns:
        the word; None where it has a variable that is not known.
    """
    unknown = False

    def read(found: re.Match) -> str:
        nonlocal unknown
        if not found[1] or found[1] not in environment:
            return "$" if found[0] == "$$" else found[0]
        value = environment[found[1]]
        unknown = unknown or isinstance(value, Mapping) or value is None
        return str(value)

    text = _READ.sub(read, kept(word))
    return None if unknown else text
