"""The import graph of a Rust crate, read from its `use` declarations and paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from imports import Graph

_NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|r(\#*)".*?"\1|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'""", re.DOTALL
)
_TESTS = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod \w+ \{")
_USE = re.compile(r"\buse\s+([^;]+);")
_PATH = re.compile(r"\b(?:crate|self|super)(?:::\w+)+")

Path_ = tuple[str, ...]


def rust_graph(src: Path) -> Graph:
    """The files of a crate and what each uses of the others, through re-exports.

    A file that has children is named "folder.__init__", the root "crate.__init__". It and its
    children may know each other, so there are no edges between them. Tests do not count.
    """
    files = {_module(path, src): path for path in src.rglob("*.rs") if path.stem != "tests"}
    crate = _Crate(files)
    names = {module: ".".join(crate.name(module)) for module in files}
    return {
        names[module]: {
            names[target]
            for path in crate.used[module]
            if (target := crate.resolve(path)) != module and not _related(module, target)
        }
        for module in files
    }


class _Crate:
    def __init__(self, files: dict[Path_, Path]) -> None:
        self.files = files
        self.used: dict[Path_, set[Path_]] = {}
        self._names: dict[Path_, dict[str, Path_]] = {}
        for module, path in files.items():
            text = _code(path.read_text(encoding="utf-8"))
            brought = dict(self._brought(module, text))
            self._names[module] = brought
            inline = (self._absolute(found.split("::"), module) for found in _PATH.findall(text))
            self.used[module] = {*brought.values(), *inline}

    def name(self, module: Path_) -> Path_:
        around = any(other[:-1] == module for other in self.files if other)
        return ("crate", *module, *(("__init__",) if around or not module else ()))

    def resolve(self, path: Path_) -> Path_:
        """The file that has what the path names."""
        seen: set[Path_] = set()
        module: Path_ = ()
        rest = list(path)
        while rest and path not in seen:
            if (*module, rest[0]) in self.files:
                module = (*module, rest.pop(0))
            elif rest[0] in self._names[module]:
                seen.add(path)
                path = (*self._names[module][rest[0]], *rest[1:])
                module, rest = (), list(path)
            else:
                break
        return module

    def _brought(self, module: Path_, text: str) -> Iterator[tuple[str, Path_]]:
        """Each name that a `use` declaration brings into the file, with its absolute path."""
        for tree in _USE.findall(text):
            for path, name in _leaves("".join(tree.split(" ")) if " as " not in tree else tree):
                if path[0] in ("crate", "self", "super") or (*module, path[0]) in self.files:
                    yield name, self._absolute(list(path), module)

    def _absolute(self, path: list[str], module: Path_) -> Path_:
        if path[0] == "crate":
            return tuple(path[1:])
        while path and path[0] in ("self", "super"):
            if path.pop(0) == "super":
                module = module[:-1]
        return (*module, *path)


def _leaves(tree: str) -> Iterator[tuple[Path_, str]]:
    """The paths of a use tree, each with the name that it brings."""
    tree = tree.strip()
    if "{" in tree:
        prefix, _, inside = tree.partition("{")
        for part in _split(inside.rpartition("}")[0]):
            yield from _leaves(prefix + part.strip())
        return
    path, _, renamed = tree.partition(" as ")
    parts = tuple(part.strip() for part in path.split("::") if part.strip() not in ("", "*"))
    if parts[-1] == "self" and len(parts) > 1:
        parts = parts[:-1]
    yield parts, renamed.strip() or (parts[-1] if "*" not in path else "*" + path)


def _split(inside: str) -> Iterator[str]:
    """At the commas that are not inside braces."""
    depth, last = 0, 0
    for place, character in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield inside[last:place]
            last = place + 1
    if inside[last:].strip():
        yield inside[last:]


def _code(text: str) -> str:
    """Without comments, strings and inline modules of tests."""
    text = _NOISE.sub(lambda found: '""' if found[0][0] in "r\"'" else "", text)
    while found := _TESTS.search(text):
        depth, place = 1, found.end()
        while depth and place < len(text):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        text = text[: found.start()] + text[place:]
    return re.sub(r"#\[cfg\(test\)\]\s*use [^;]+;", "", text)


def _module(path: Path, src: Path) -> Path_:
    parts = path.relative_to(src).with_suffix("").parts
    return parts[:-1] if parts[-1] in ("lib", "mod") else parts


def _related(a: Path_, b: Path_) -> bool:
    short, long = sorted((a, b), key=len)
    return long[: len(short)] == short
