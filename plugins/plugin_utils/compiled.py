"""Keeps what is compiled, of our Python and of templates, from one run to the next; never in a folder that others may write.

Ansible's loader of collections compiles each module anew in each run, a tenth of one with nothing to change.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import marshal
import os
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

OTHERS_WRITE = 0o022
KEPT_SECONDS = 30 * 24 * 3600
OURS = f"{__name__.rpartition('.')[0]}."


def folder(name: str, *made_by: str) -> Path | None:
    """Give a folder for what is compiled, beside what else the project caches; None where there is none to be trusted.

    What is in the folder is run, so nobody else may write there, nor put another in its place.

    Args:
        name: what for.
        made_by: what else than a source decides what is compiled of it: files that are there, or versions.
    """
    try:
        root = Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard")
        found = root.absolute() / (f"{name}-{_digest(made_by)}" if made_by else name)
        for place in (*reversed(found.parents), found):
            place.mkdir(mode=0o700, exist_ok=True)
        found = found.resolve()
        trusted = _ours(found.stat()) and all(_safe(place.stat()) for place in found.parents)
    except (OSError, RuntimeError):  # no home, or none that can be written: as in a container of AWX
        return None
    return found if trusted and os.access(found, os.W_OK) else None


def _digest(made_by: Sequence[str]) -> str:
    found = hashlib.sha256()
    for one in made_by:
        found.update(Path(one).read_bytes() if Path(one).is_file() else one.encode())
    return found.hexdigest()[:12]


def _ours(status: os.stat_result) -> bool:
    """Tell whether a file or folder is ours, and nobody else may write it."""
    return status.st_uid == os.getuid() and not status.st_mode & OTHERS_WRITE


def _safe(status: os.stat_result) -> bool:
    """Tell whether nobody but us and root can rename what is in a folder: in one as /tmp each only what is his own."""
    return status.st_uid in (0, os.getuid()) and bool(
        not status.st_mode & OTHERS_WRITE or status.st_mode & stat.S_ISVTX
    )


def _read(file: Path) -> bytes:
    """Read a file that nobody else may write; nothing of another one."""
    with file.open("rb") as opened:
        return opened.read() if _ours(os.fstat(opened.fileno())) else b""


@functools.cache
def _tidy(root: Path) -> None:
    """Remove what was compiled long ago, as in a working copy that is gone; once in a process that adds to it."""
    for file in [one for name in ("python", "templates*") for one in root.glob(f"{name}/*")]:
        with contextlib.suppress(OSError):
            if file.is_file() and time.time() - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink()


def _write(file: Path, data: bytes) -> None:
    """Keep a file: beside it, and renamed, as several runs may write at once."""
    with contextlib.suppress(OSError):
        _tidy(file.parent.parent)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as written:
            try:
                written.write(data)
                written.flush()
                Path(written.name).replace(file)
            except BaseException:
                Path(written.name).unlink(missing_ok=True)
                raise


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
        # One file for each place, since the code names it, and for each way in which Python compiles.
        way = f"{sys.implementation.cache_tag}.opt-{sys.flags.optimize}"
        file = self.kept / f"{hashlib.sha256(self.path.encode()).hexdigest()}.{way}"
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            data = _read(file)
            body = data[len(head) + hashlib.sha256().digest_size :]
            if data == head + hashlib.sha256(body).digest() + body:
                return marshal.loads(body)  # noqa: S302 (from a file that is ours alone)
        code = self.source_to_code(source, self.path)
        if not sys.dont_write_bytecode:
            body = marshal.dumps(code)
            _write(file, head + hashlib.sha256(body).digest() + body)
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
