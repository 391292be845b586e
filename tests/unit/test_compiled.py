"""What is compiled is kept from one run to the next, and never run where somebody else could have written it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import jinja2
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils import compiled
from ansible_collections.modelyard.core.plugins.plugin_utils.report import page
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import templates

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def keeping(monkeypatch):
    """Whatever the shell says of it, Python may keep what it compiles."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")


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


def test_it_is_kept_only_below_folders_that_nobody_else_may_write(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        assert compiled.folder("templates") == tmp_path / "a" / "b" / "templates"
    finally:
        os.umask(before)
    assert {(tmp_path / place).stat().st_mode & 0o777 for place in ("a", "a/b")} == {0o700}
    (tmp_path / "a").chmod(0o777)
    assert compiled.folder("templates") is None
    # As /tmp, where nobody renames what is another's.
    (tmp_path / "a").chmod(0o1777)
    assert compiled.folder("templates")


def test_templates_are_kept_apart_for_each_version_of_what_compiles_them(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path))
    source = tmp_path / "filters.py"
    source.write_text("a")
    first = compiled.folder("templates", str(source), "3.1")
    assert first.name.startswith("templates-")
    assert compiled.folder("templates", str(source), "3.1") == first
    assert compiled.folder("templates", str(source), "3.2") != first
    source.write_text("b")
    assert compiled.folder("templates", str(source), "3.1") != first


@pytest.mark.parametrize("environment", [templates.environment, page._environment])
def test_what_compiles_templates_names_their_folder(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path))
    kept = []
    for version in ("3.1", "3.2"):
        monkeypatch.setattr(jinja2, "__version__", version)
        kept.append(
            environment.__wrapped__(*[("vllm",)] * (environment is templates.environment)).bytecode_cache.directory
        )
    assert kept[0] != kept[1]


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
    # Cut short, another at its end, or by another version of Python.
    data = entry.read_bytes()
    for broken in (data[:-9], data[:-1] + bytes([data[-1] ^ 1]), b"x" + data, b""):
        entry.write_bytes(broken)
        assert load(file, kept) == 2
        assert entry.read_bytes() == data


def test_what_somebody_else_may_write_is_not_run(tmp_path):
    file, kept = tmp_path / "m.py", tmp_path / "kept"
    kept.mkdir()
    file.write_text("x = 1")
    load(file, kept)
    (entry,) = kept.iterdir()
    entry.chmod(0o666)
    assert compiled._read(entry) == b""
    assert load(file, kept) == 1
    # It is another then.
    assert not entry.stat().st_mode & 0o022


def test_asserts_that_were_left_out_are_not_taken_for_the_module(tmp_path):
    file, kept = tmp_path / "m.py", tmp_path / "kept"
    kept.mkdir()
    file.write_text("x = __debug__")
    script = f"""
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([{str(ROOT / "collections")!r}])
from pathlib import Path
from ansible_collections.modelyard.core.plugins.plugin_utils import compiled
found = compiled.Finder(Path({str(kept)!r})).find_spec(f"{{compiled.OURS}}a.m", [{str(tmp_path)!r}])
exec(found.loader.get_code(found.name))
print(x)
"""
    env = {**os.environ, "MODELYARD_CACHE": "/proc/none"}
    run = [sys.executable, "-B", "-c", script]
    # Python itself is told to keep nothing by -B, and then nor is this.
    assert subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout == "True\n"
    assert list(kept.iterdir()) == []
    assert load(file, kept) is True
    run[1] = "-O"
    assert subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout == "False\n"


def test_what_was_compiled_long_ago_goes_when_something_is_added(tmp_path):
    file, kept, templates = tmp_path / "m.py", tmp_path / "python", tmp_path / "templates-1"
    old, new, foreign = kept / "old", templates / "new", tmp_path / "kubectl"
    for folder in (kept, templates):
        folder.mkdir()
    for one in (old, new, foreign):
        one.touch()
    ancient = time.time() - compiled.KEPT_SECONDS - 60
    for one in (old, foreign):
        os.utime(one, (ancient, ancient))
    file.write_text("x = 1")
    load(file, kept)
    assert (old.exists(), new.exists(), foreign.exists()) == (False, True, True)


def test_what_can_not_be_kept_leaves_nothing_behind(tmp_path):
    taken = tmp_path / "kept" / "taken"
    taken.mkdir(parents=True)
    (taken / "file").touch()
    compiled._write(taken, b"")
    assert list((tmp_path / "kept").iterdir()) == [taken]


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
