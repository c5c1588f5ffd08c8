"""The methods of results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import fastdecode
from hostile import either, integer, text

from surface.made import candidates, decoder, generations, saved, tree
from surface.target import TARGETS, target


def enter() -> None:
    def indexed(result: Any, index: Any) -> Any:
        return result[index]

    slices = lambda value: isinstance(value, slice)  # noqa: E731
    made: dict[str, Callable[[], Any]] = {
        "BeamTree": tree,
        "Candidates": candidates,
        "Raffle": lambda: candidates().draw(1),
        "Tally": lambda: candidates().sample(3, 1),
        "Classifications": lambda: decoder().classify(["Once"], ["a", "b"], bos=True),
        "Classification": lambda: decoder().classify("Once", ["a", "b"], bos=True),
        "Comparison": lambda: decoder().compare(["Once", "Twice"], bos=True, eos=False),
        "Continuations": lambda: decoder().enumerate_continuations(
            "Once", max_new_tokens=1, min_probability=0.01
        ),
        "Generations": generations,
        "Scores": lambda: decoder().score(["Once", "Twice"], bos=True, eos=False),
        "Surprises": lambda: decoder().surprising(["Once", "Twice"], bos=True, eos=False),
        "Tokens": lambda: decoder().tokens("Once upon"),
        "Vocabulary": lambda: decoder().vocabulary,
    }
    for name, make in made.items():
        of = cache(make)
        kinds = {"index": either(integer, slices, *([text] if name == "Vocabulary" else []))}
        # What stands in brackets has no name.
        target(
            f"{name}.__getitem__",
            indexed,
            {"index": 0},
            of=of,
            shown={"index": ()},
            raises=(KeyError,) if name == "Vocabulary" else (),
            **kinds,
        )
        TARGETS[f"{name}.__getitem__"] = dataclasses.replace(
            TARGETS[f"{name}.__getitem__"], parameters=("index",)
        )
    target(
        "BeamTree.children", fastdecode.BeamTree.children, {"number": 0}, of=tree, number=integer
    )
    target("BeamTree.to_svg", fastdecode.BeamTree.to_svg, {}, of=tree)
    target("Candidates.draw", fastdecode.Candidates.draw, {}, of=candidates, stream=integer)
    target(
        "Candidates.sample",
        fastdecode.Candidates.sample,
        {"count": 2},
        of=candidates,
        stream=integer,
    )
    target(
        "Surprises.top",
        fastdecode.Surprises.top,
        {"count": 1},
        of=cache(lambda: decoder().surprising(["Once"], bos=True, eos=False)),
    )
    target(
        "Vocabulary.containing",
        fastdecode.Vocabulary.containing,
        {"text": "a"},
        of=lambda: decoder().vocabulary,
        text=text,
    )
    target(
        "Generations.load",
        fastdecode.Generations.load,
        lambda: {"path": str(saved())},
        files=("path",),
    )
    target(
        "Generations.save",
        fastdecode.Generations.save,
        lambda: {"path": str(saved().with_name("again.json"))},
        of=generations,
        files=("path",),
    )
    axes = lambda value: value is None  # noqa: E731
    target("Generation.plot", fastdecode.Generation.plot, {}, of=lambda: generations()[0], ax=axes)
    target(
        "Score.plot",
        fastdecode.Score.plot,
        {},
        ax=axes,
        of=cache(lambda: decoder().score("Once", bos=True, eos=False)[0]),
    )
