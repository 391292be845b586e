"""Keeps what is compiled, of our Python and of templates, from one run to the next; never in a folder that others may write.

Ansible's loader of collections compiles each module anew in each run, a tenth of one with nothing to change.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

OURS = f"{__name__.rpartition('.')[0]}."


def folder(name: str) -> Path | None:
    """Give a folder for what is compiled, beside what else the project caches; None where there is none to be trusted.

    What is in the folder is run, so nobody else may write there.

    Args:
        name: what for.
    """
    try:
        found = Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard") / name
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = found.stat()
    except (OSError, RuntimeError):  # no home, or none that can be written: as in a container of AWX
        return None
    ours = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return found if ours and os.access(found, os.W_OK) else None


class Loader(SourceFileLoader):
    """Loads a module from its source, or from what an earlier run compiled of the same source."""

    kept: Path

    def get_code(self, fullname: str) -> CodeType:
        """Give the code of the module.

        Args:
            fullname: its name.

        Raises:
            SyntaxError: the source is wrong.
            OSError: it can't be read.
        """
        source = self.get_data(self.path)
        head = MAGIC_NUMBER + hashlib.sha256(source).digest()
        # One file for each place, since the code names it.
        file = self.kept / f"{hashlib.sha256(self.path.encode()).hexdigest()}.{sys.implementation.cache_tag}"
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            data = file.read_bytes()
            if data.startswith(head):
                return marshal.loads(data[len(head) :])  # noqa: S302 (from a folder that is ours alone)
        code = self.source_to_code(source, self.path)
        with contextlib.suppress(OSError):
            # Beside it, and renamed: several runs may write at once.
            with tempfile.NamedTemporaryFile(dir=self.kept, delete=False) as written:
                written.write(head + marshal.dumps(code))
            Path(written.name).replace(file)
        return code


class Finder:
    """Finds our modules, before Ansible does."""

    def __init__(self, kept: Path) -> None:
        """Hold the folder."""
        self.kept = kept

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module of ours, but not a package without code, which Ansible makes up.

        Args:
            name: of the module.
            path: of its package.
            target: not looked at.
        """
        for entry in path if name.startswith(OURS) and path else ():
            place = Path(entry) / name.rpartition(".")[2]
            for file, inside in ((place.with_suffix(".py"), None), (place / "__init__.py", [str(place)])):
                if file.is_file():
                    loader = Loader(name, str(file))
                    loader.kept = self.kept
                    return spec_from_file_location(name, file, loader=loader, submodule_search_locations=inside)
        return None


def install() -> None:
    """Let Python find our modules by a :class:`Finder`, where there is a folder to be trusted."""
    kept = folder("python")
    if kept and not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder(kept))  # type: ignore[arg-type]
