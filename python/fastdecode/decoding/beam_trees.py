"""Builds a beam search's tree from what the search recorded."""

from __future__ import annotations

from fastdecode._core import BeamState
from fastdecode.decoding.request import Prompt
from fastdecode.decoding.text import continuation
from fastdecode.models.detokenizer import Detokenizer
from fastdecode.results.beam_tree import BeamTree, Branch


def beam_tree(state: BeamState, index: int, prompt: Prompt, detokenizer: Detokenizer) -> BeamTree:
    """The tree of a search that records its expansions, after prompt `index` of the batch."""
    found = state.expansions(index)
    parents = {node: parent for _, parent, _, _, _, _, node in found if node is not None}
    tokens = {node: token for _, _, token, _, _, _, node in found if node is not None}
    paths = [_path(outcome.node, parents) for outcome in state.outcomes(index)]
    returned = {node for path in paths for node in path}
    best = set(paths[0]) if paths else set()
    spare = max(parents, default=0)
    histories: dict[int, list[int]] = {0: []}
    branches = []
    for depth, parent, token, logprob, score, fate, node in found:
        if node is None:
            spare += 1
        number = spare if node is None else node
        before = histories.get(parent)
        if before is None:
            before = [tokens[n] for n in reversed(_path(parent, parents))]
            histories[parent] = before
        text = continuation(detokenizer, prompt.ids + before, [token])
        if not text:
            text = detokenizer.hidden(token) or detokenizer.decode([token])
        branches.append(
            Branch(
                number,
                parent,
                token,
                text,
                depth,
                logprob,
                score,
                fate,
                number in returned,
                number in best,
            )
        )
    return BeamTree(continuation(detokenizer, [], prompt.ids), branches)


def _path(node: int, parents: dict[int, int]) -> list[int]:
    """A node and those before it, backwards, without the prompt."""
    path = []
    while node != 0:
        path.append(node)
        node = parents[node]
    return path
