"""What is compiled is kept from one run to the next, and never run where somebody else could have written it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.modelyard.core.plugins.plugin_utils import compiled

ROOT = Path(__file__).parents[2]


def test_it_is_kept_where_nobody_else_may_write(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path))
    kept = compiled.folder("templates")
    assert kept == tmp_path / "templates"
    assert kept.stat().st_mode & 0o777 == 0o700
    kept.chmod(0o770)
    assert compiled.folder("templates") is None


def test_without_a_folder_to_keep_it_in_it_is_compiled_anew(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path / "file"))
    assert compiled.folder("templates") is None


def load(file: Path, kept: Path) -> object:
    """Run a module and give its x."""
    package = f"{compiled.OURS}a"
    spec = compiled.Finder(kept).find_spec(f"{package}.{file.stem}", [str(file.parent)])
    names: dict = {}
    exec(spec.loader.get_code(spec.name), names)
    return names["x"]


def test_what_runs_is_the_source_as_it_is(tmp_path):
    file, kept = tmp_path / "m.py", tmp_path / "kept"
    kept.mkdir()
    file.write_text("x = 1")
    times = file.stat()
    assert (load(file, kept), load(file, kept)) == (1, 1)
    (entry,) = kept.iterdir()
    # Changed within one tick of the clock, at the same length.
    file.write_text("x = 2")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (load(file, kept), load(file, kept)) == (2, 2)
    assert list(kept.iterdir()) == [entry]
    # Cut short, or by another version of Python.
    for broken in (entry.read_bytes()[:-9], b"x" + entry.read_bytes(), b""):
        entry.write_bytes(broken)
        assert load(file, kept) == 2


def test_other_modules_are_left_to_their_finders(tmp_path):
    (tmp_path / "m.py").write_text("x = 1")
    finder = compiled.Finder(tmp_path)
    assert finder.find_spec("ansible_collections.kubernetes.core.m", [str(tmp_path)]) is None
    assert finder.find_spec(f"{compiled.OURS}m", None) is None
    assert finder.find_spec(f"{compiled.OURS}other", [str(tmp_path)]) is None


def test_a_run_keeps_our_modules_and_does_without_the_validation_of_objects(tmp_path):
    script = f"""
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([{str(ROOT / "collections")!r}])
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client
import sys
assert "kubernetes_validate" not in sys.modules and "jsonschema" not in sys.modules
import kubernetes_validate
"""
    run = [sys.executable, "-c", script]
    env = {**os.environ, "MODELYARD_CACHE": str(tmp_path)}
    subprocess.run(run, env=env, check=True)
    first = {file: file.stat().st_mtime_ns for file in (tmp_path / "python").iterdir()}
    assert len(first) > 1
    subprocess.run(run, env=env, check=True)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "python").iterdir()} == first
