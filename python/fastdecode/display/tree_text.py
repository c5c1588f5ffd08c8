"""A beam search's tree as text: for a terminal, for Graphviz and for Mermaid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.tree import Tree

    from fastdecode.results.beam_tree import BeamTree, Branch

_STYLES = {"best": "bold green", "returned": "bold", "kept": "", "pruned": "dim"}


def visible(text: str) -> str:
    """A token's text on one line, with its spaces and what cannot be printed made visible."""
    shown = text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)


def standing(branch: Branch) -> str:
    """The standing of a branch: "best", "returned", "kept" or "pruned"."""
    if branch.best:
        return "best"
    if branch.returned:
        return "returned"
    return "pruned" if branch.fate == "pruned" else "kept"


@dataclass(slots=True)
class _Stretch:
    """Successive branches of the same standing, without a fork between them."""

    branches: list[Branch]
    pruned: int = 0
    children: list[_Stretch] = field(default_factory=list)

    def label(self, tree: BeamTree) -> str:
        last = self.branches[-1]
        text = visible("".join(branch.text for branch in self.branches))
        notes = [f"{last.score:.2f}"]
        if last.fate == "finished":
            notes.append("end")
        if self.pruned:
            notes.append(f"{self.pruned} pruned")
        if tree.parted is not None and any(b.id == tree.parted for b in self.branches):
            notes.append("greedy leaves the best here")
        return f"{text}  {', '.join(notes)}"


def as_text(tree: BeamTree) -> str:
    """The survivors as an indented tree, with the number of branches pruned along each."""
    lines = [_head(tree)]

    def add(stretches: list[_Stretch], indent: str) -> None:
        for stretch in stretches:
            last = stretch is stretches[-1]
            mark = {"best": "*", "returned": "+"}.get(standing(stretch.branches[0]), " ")
            corner = "└─" if last else "├─"
            lines.append(f"{indent}{corner}{mark} {stretch.label(tree)}")
            add(stretch.children, indent + ("   " if last else "│  "))

    add(_stretches(tree, 0)[0], "")
    return "\n".join(lines)


def as_rich(tree: BeamTree) -> Tree:
    """The same for rich's console: the best in green, returned branches bold."""
    from rich.text import Text
    from rich.tree import Tree

    root = Tree(Text(_head(tree)))

    def add(stretches: list[_Stretch], above: Tree) -> None:
        for stretch in stretches:
            style = _STYLES[standing(stretch.branches[0])] or "default"
            add(stretch.children, above.add(Text(stretch.label(tree), style=style)))

    add(_stretches(tree, 0)[0], root)
    return root


def _head(tree: BeamTree) -> str:
    parted = ", greedy leaves the best here" if tree.parted == 0 else ""
    return f"{visible(tree.prompt)}  0.00{parted}"


def _stretches(tree: BeamTree, number: int) -> tuple[list[_Stretch], int]:
    """The survivors after a branch, and how many were pruned at once."""
    children = tree.children(number)
    pruned = sum(child.fate == "pruned" for child in children)
    stretches = []
    for child in children:
        if child.fate == "pruned":
            continue
        stretch = _Stretch([child])
        stretch.children, stretch.pruned = _stretches(tree, child.id)
        only = stretch.children[0] if len(stretch.children) == 1 else None
        parted = child.id == tree.parted
        if only and standing(only.branches[0]) == standing(child) and not parted:
            stretch.branches += only.branches
            stretch.pruned += only.pruned
            stretch.children = only.children
        stretches.append(stretch)
    return stretches, pruned


def as_dot(tree: BeamTree) -> str:
    """A Graphviz digraph, from left to right."""
    lines = [
        "digraph beams {",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="monospace"];',
        f"  n0 [label={_quoted(visible(tree.prompt))}];",
    ]
    looks = {
        "best": "color=forestgreen, penwidth=2.5",
        "returned": "penwidth=2",
        "kept": "color=gray30",
        "pruned": "color=gray70, fontcolor=gray60",
    }
    for branch in tree:
        look = looks[standing(branch)]
        shape = ", peripheries=2" if branch.fate == "finished" else ""
        label = _quoted(f"{visible(branch.text)}\n{branch.score:.2f}")
        lines.append(f"  n{branch.id} [label={label}, {look}{shape}];")
        lines.append(f"  n{branch.parent} -> n{branch.id} [{look.partition(', font')[0]}];")
    if tree.parted is not None:
        lines.append(f'  n{tree.parted} [xlabel="greedy leaves the best here"];')
    return "\n".join([*lines, "}"])


def as_mermaid(tree: BeamTree) -> str:
    """A Mermaid flowchart, from left to right."""
    lines = ["flowchart LR", f'  n0["{_entities(visible(tree.prompt))}"]']
    for branch in tree:
        opening, closing = ('(["', '"])') if branch.fate == "finished" else ('["', '"]')
        label = f"{_entities(visible(branch.text))}<br/>{branch.score:.2f}"
        lines.append(f"  n{branch.id}{opening}{label}{closing}:::{standing(branch)}")
        arrow = "==>" if branch.best else "-.->" if branch.fate == "pruned" else "-->"
        lines.append(f"  n{branch.parent} {arrow} n{branch.id}")
    if tree.parted is not None:
        lines.append(f'  parted>"greedy leaves the best here"] -.- n{tree.parted}')
    lines += [
        "  classDef best stroke:#1a7f37,stroke-width:3px",
        "  classDef returned stroke-width:3px",
        "  classDef kept stroke-width:1px",
        "  classDef pruned stroke:#8c959f,color:#8c959f",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    """The text with everything escaped that Mermaid might read as Markdown or HTML."""
    return "".join(_entity(c) for c in text)


def _entity(character: str) -> str:
    plain = character.isalnum() or character in "·⏎⇥ "
    return character if plain else f"#{ord(character)};"
