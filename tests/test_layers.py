"""The rooms of the package: no module imports itself through others, and folders depend one way."""

from __future__ import annotations

from pathlib import Path

import pytest
from imports import circle, python_graph, siblings

PACKAGE = Path(__file__).resolve().parent.parent / "python" / "fastdecode"
GRAPH = python_graph(PACKAGE)
# From the bottom up: each may import what stands before it.
ORDER = (
    "_interrupts",
    "_core",
    "_moved",
    "errors",
    "forks",
    "files",
    "core",
    "options",
    "display",
    "models",
    "results",
    "decoding",
    "scoring",
    "decoder",
    "loaded",
    "testing",
    "jobs",
    "api",
    "__init__",
    "integrations",
    "cli",
    "__main__",
)
# Modules side by side in a folder.
MOST = 13


def test_no_module_imports_itself_through_others():
    assert not (found := circle(GRAPH)), " -> ".join(found)


@pytest.mark.parametrize(("folder", "graph"), siblings(GRAPH))
def test_what_stands_side_by_side_depends_one_way(folder, graph):
    assert not (found := circle(graph)), f"in {folder}: " + " -> ".join(found)


def test_folders_depend_downwards():
    for source, targets in sorted(GRAPH.items()):
        for target in sorted(targets):
            upper, lower = source.split(".")[1], target.split(".")[1]
            assert ORDER.index(lower) <= ORDER.index(upper), f"{source} imports {target}"


def test_no_folder_is_crowded():
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        modules = [path.name for path in folder.glob("*.py") if path.stem != "__init__"]
        assert len(modules) <= MOST, f"{folder}: {sorted(modules)}"


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
        ({"a": {"a"}}, ["a", "a"]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
    ],
)
def test_circles_are_found(graph, found):
    assert circle(graph) == found


def test_imports_inside_functions_count_and_those_for_types_do_not(tmp_path):
    package = tmp_path / "p"
    (package / "low").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "low" / "__init__.py").write_text("from p.low.a import A")
    (package / "low" / "a.py").write_text(
        "if TYPE_CHECKING:\n    from p.high import B\n\ndef f():\n    import p.other\n"
    )
    (package / "other.py").write_text("")
    (package / "high.py").write_text("from p.low import A, a")
    graph = python_graph(package)
    assert graph["p.low.a"] == {"p.other"}
    assert graph["p.high"] == {"p.low.__init__", "p.low.a"}
    assert dict(siblings(graph))["p"] == {"high": {"low"}, "low": {"other"}}
