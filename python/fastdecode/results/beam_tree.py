"""The candidates that a beam search compared, as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.options import checks
from fastdecode.results.items import at


@dataclass(frozen=True, slots=True)
class Branch:
    """A candidate: one token after another branch.

    Attributes:
        id: its number in the tree; 0 is the prompt, the root.
        parent: the number of the branch that it continues.
        token_id: its token.
        text: the token's text.
        depth: the number of new tokens from the prompt to here.
        logprob: the token's log-probability under the model, in nats.
        score: the sum that the search compared: log-probabilities with penalties, in nats.
        fate: "kept" (it was continued), "finished" (it ended a sequence) or "pruned".
        returned: whether it is part of a returned sequence.
        best: whether it is part of the best sequence.
    """

    id: int
    parent: int
    token_id: int
    text: str
    depth: int
    logprob: float
    score: float
    fate: str
    returned: bool
    best: bool


class BeamTree(Sequence[Branch]):
    """Every candidate that the beam search of one prompt compared, step by step.

    A sequence of `Branch`, in the order of the steps and, within a step, as the search ranked them.
    A notebook shows it as a drawing, `print(tree)` as text, and rich in colour; `to_svg`, `to_dot`
    and `to_mermaid` return the drawing in that format.

    Attributes:
        prompt: the prompt's text.
        parted: the number of the branch (0: the prompt) after which greedy decoding would have
            left the best sequence, or None where it would have found it.
    """

    def __init__(self, prompt: str, branches: Sequence[Branch]) -> None:
        """Hold the branches after `prompt`."""
        self.prompt = prompt
        self._branches = tuple(branches)
        self.parted = self._parting()

    def __len__(self) -> int:
        """The number of branches."""
        return len(self._branches)

    def __getitem__(self, index: Any) -> Any:
        """One branch, or a slice of them."""
        if isinstance(index, slice):
            return self._branches[index]
        return at(self, self._branches, index)

    def __repr__(self) -> str:
        """Its size and the best sequence."""
        best = "".join(branch.text for branch in self._branches if branch.best)
        return f"BeamTree({self.prompt!r}, {len(self)} branches, best {best!r})"

    def __str__(self) -> str:
        """The tree as text."""
        from fastdecode.display.tree_text import as_text

        return as_text(self)

    def __rich__(self) -> Any:
        """The tree for rich's console, in colour."""
        from fastdecode.display.tree_text import as_rich

        return as_rich(self)

    def _repr_html_(self) -> str:
        """The drawing within the page, whose colours it takes; an image could not see them."""
        from fastdecode.display.html import fragment

        return fragment(f'<div class="wide">{self.to_svg()}</div>')

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def children(self, number: int) -> list[Branch]:
        """The branches that continue branch `number` (0: the prompt), as the search ranked them.

        Raises:
            TypeError: for anything but an integer.
        """
        number = checks.whole("number", number)
        return [branch for branch in self._branches if branch.parent == number]

    def to_svg(self, *, pruned: bool = True) -> str:
        """A drawing: survivors bold, the best in colour, pruned branches grey.

        Inside a page it takes the colours of the page; in a file of its own it is light or dark, as
        the reader prefers.

        Args:
            pruned: whether to draw pruned branches.
        """
        from fastdecode.display.tree_svg import as_svg

        return as_svg(self, pruned=checks.boolean("pruned", pruned))

    def to_dot(self) -> str:
        """The tree for Graphviz."""
        from fastdecode.display.tree_text import as_dot

        return as_dot(self)

    def to_mermaid(self) -> str:
        """The tree as a Mermaid flowchart, which GitHub and many editors draw."""
        from fastdecode.display.tree_text import as_mermaid

        return as_mermaid(self)

    def _parting(self) -> int | None:
        """The branch after which the best sequence takes a token other than the likeliest."""
        for branch in self._branches:
            if branch.best:
                likeliest = max(self.children(branch.parent), key=lambda one: one.logprob)
                if likeliest.logprob > branch.logprob:
                    return branch.parent
        return None
