"""The rooms of the crates: no file uses itself through others, crates and folders one way."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from imports import circle, siblings
from rust_imports import rust_graph

RUST = Path(__file__).resolve().parent.parent / "rust"
# From the bottom up: each may depend on those before it. The engine's tests may use the core.
CRATES = ("fastdecode-simd", "fastdecode-core", "fastdecode-engine", "fastdecode-py")
GRAPHS = {name: rust_graph(RUST / name / "src") for name in CRATES}
# Files side by side in a folder.
MOST = 13


def test_crates_depend_downwards():
    for place, name in enumerate(CRATES):
        manifest = tomllib.loads((RUST / name / "Cargo.toml").read_text(encoding="utf-8"))
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            ours = [other for other in manifest.get(kind, ()) if other in CRATES]
            assert all(CRATES.index(other) < place for other in ours), f"{name} needs {ours}"


@pytest.mark.parametrize("crate", CRATES)
def test_no_file_uses_itself_through_others(crate):
    assert not (found := circle(GRAPHS[crate])), " -> ".join(found)


@pytest.mark.parametrize("crate", CRATES)
def test_what_stands_side_by_side_depends_one_way(crate):
    for folder, graph in siblings(GRAPHS[crate]):
        assert not (found := circle(graph)), f"in {folder}: " + " -> ".join(found)


@pytest.mark.parametrize("crate", CRATES)
def test_no_folder_is_crowded(crate):
    src = RUST / crate / "src"
    for folder in [src, *(path for path in src.rglob("*") if path.is_dir())]:
        files = [path.name for path in folder.glob("*.rs")]
        files = [name for name in files if name not in ("lib.rs", "mod.rs", "tests.rs")]
        assert len(files) <= MOST, f"{folder}: {sorted(files)}"


def test_uses_are_read(tmp_path):
    """Through re-exports, braces, `super`, paths in the code; not from comments or tests."""
    (tmp_path / "a").mkdir()
    (tmp_path / "lib.rs").write_text("mod a;\npub mod b;\nmod c;\npub use a::deep::Thing;\n")
    (tmp_path / "a" / "mod.rs").write_text(
        "mod deep;\nmod side;\npub use side::Other as Renamed;\n"
    )
    (tmp_path / "a" / "deep.rs").write_text("use super::side::{O, more::{self, X}};\n")
    (tmp_path / "a" / "side.rs").write_text(
        '// use crate::b::B;\nfn f() { crate::c::run("crate::b") }\n'
    )
    (tmp_path / "b.rs").write_text(
        "use crate::{Thing, a::Renamed};\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n"
    )
    (tmp_path / "c.rs").write_text("")
    assert rust_graph(tmp_path) == {
        "crate.__init__": set(),
        "crate.a.__init__": set(),
        "crate.a.deep": {"crate.a.side"},
        "crate.a.side": {"crate.c"},
        "crate.b": {"crate.a.deep", "crate.a.side"},
        "crate.c": set(),
    }
