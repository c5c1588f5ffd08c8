"""Import graphs, and the circles in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = dict[str, set[str]]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Nodes that lead back to the first of them, as ["a", "b", "a"]; empty where none do."""
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        left = [iter([start])]
        while left:
            node = next(left[-1], None)
            if node is None:
                left.pop()
                if path:
                    done.add(path.pop())
            elif node in path:
                return [*path[path.index(node) :], node]
            elif node not in done:
                path.append(node)
                left.append(iter(sorted(graph.get(node, ()))))
    return []


def siblings(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """Each folder with the graph of what stands side by side in it, modules and folders."""
    levels: dict[str, Graph] = {}
    for source, targets in graph.items():
        for target in targets | {source}:
            a, b = source.split("."), target.split(".")
            shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
            if shared is not None:
                level = levels.setdefault(".".join(a[:shared]), {})
                level.setdefault(a[shared], set()).add(b[shared])
    yield from sorted(levels.items())


def python_graph(package: Path) -> Graph:
    """The modules of a package and what each imports of it, at the top or inside a function.

    A package's own `__init__` is named "package.__init__". Imports for type checkers do not count.
    """
    files = {_name(path, package): path for path in package.rglob("*.py")}
    known = set(files) | {f"{package.name}.{path.stem}" for path in package.glob("*.pyi")}
    return {
        name: {
            target
            for wanted in _imported(ast.parse(path.read_text(encoding="utf-8")))
            for target in _loaded(wanted, name, known)
        }
        for name, path in files.items()
    }


def _name(path: Path, package: Path) -> str:
    return ".".join([package.name, *path.relative_to(package).with_suffix("").parts])


def _imported(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Each import as (module, name); no name for `import module`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: relative import; write it from the root")
            yield from ((str(node.module), alias.name) for alias in node.names)
        else:
            yield from _imported(node)


def _loaded(wanted: tuple[str, str | None], importer: str, known: set[str]) -> Iterator[str]:
    """The modules that an import runs: its target, and the packages around that one.

    A package around both is running already.
    """
    module, name = wanted
    target = next(
        (one for one in (f"{module}.{name}", module, f"{module}.__init__") if one in known), None
    )
    if f"{module}.{name}.__init__" in known:
        target = f"{module}.{name}.__init__"
    if target is None:
        return
    yield target
    parts = target.split(".")
    for end in range(2, len(parts)):
        around = ".".join(parts[:end])
        if not importer.startswith(f"{around}."):
            yield f"{around}.__init__"
