"""Code as users write it, for type checkers; each line marked "refused" must be refused.

`test_user_code.py` has mypy and pyright read this file. Nothing runs it.
"""

from pathlib import Path
from typing import Any, assert_type

import fastdecode
import numpy as np
import torch
from fastdecode import (
    Beam,
    Candidates,
    Classification,
    Classifications,
    Decoder,
    Generation,
    Generations,
    Sample,
    Scores,
    Token,
    Tokens,
)
from numpy.typing import NDArray

found = fastdecode.generate("x", model="demo", temperature=0.8, top_p=0.9, n=2, seed=7)
assert_type(found, Generations)
fastdecode.generate(["x", "y"], strategy=Sample(top_k=50), stop="\n", logprobs=3, trace=True)
fastdecode.generate("x", num_beams=4, early_stopping="never", progress=False)
fastdecode.generate("x", temperature=1, do_sample=True, output_scores=False, pad_token_id=0)
fastdecode.generate("x", temprature=0.8)  # refused
fastdecode.generate("x", temperature="hot")  # refused
fastdecode.generate("x", top_k=0.5)  # refused
fastdecode.generate("x", n=None)  # refused
fastdecode.generate("x", output_scores=True)  # refused
fastdecode.generate(7)  # refused
fastdecode.generate([5, 6], stop_token_ids=[7], add_special_tokens=False)
fastdecode.generate([[5, 6], [7]], stop_token_ids=7)
mixed: list[str | list[int]] = ["x", [5, 6]]
fastdecode.generate(mixed, device="cpu", revision="main")
fastdecode.generate([np.array([5, 6]), np.array([7])])
fastdecode.generate(np.array([5, 6]))
fastdecode.generate(torch.tensor([[5, 6]]))
fastdecode.generate([0.5])  # refused
fastdecode.generate("x", stop_token_ids="a")  # refused
fastdecode.generate("x", add_special_tokens="no")  # refused
assert_type(found[0], Generation)
assert_type(found[0:2], Generations)
assert_type(found.by_prompt(), dict[int, Generations])
assert_type(found[0].prompt_index, int)
assert_type(found[0].prompt_token_ids, list[int] | None)

for step in fastdecode.stream("x", seed=7, max_length=40, strategy=Beam(2)):
    assert_type(step.text, str)
fastdecode.stream("x", progress=True)  # refused
fastdecode.stream("x", seed="seven")  # refused
fastdecode.stream([5, 6], stop_token_ids=[7])

fastdecode.next_token("x", 5, min_p=0.1)
fastdecode.next_token("x", max_new_tokens=3)  # refused
assert_type(fastdecode.next_token([5, 6], engine="torch", dtype="float64")[:3], Candidates)
fastdecode.next_token("x", device="cpu", top_k=3, add_special_tokens=False)

decoder = Decoder.from_pretrained("demo", engine="native")
decoder.generate("x", repetition_penalty=1.2, eos_token_id=[0])
decoder.generate("x", repetition_penalti=1.2)  # refused
decoder.stream("x", top_p="0.9")  # refused
assert_type(decoder.encode("x"), list[int])
assert_type(decoder.encode(["x"]), list[list[int]])
decoder.encode("x", add_special_tokens=False)
decoder.encode([5])  # refused
assert_type(decoder.decode([5, 6]), str)
assert_type(decoder.decode([[5, 6]], skip_special_tokens=False), list[str])
decoder.decode("x")  # refused
assert_type(decoder.logits("x"), NDArray[np.float32])
assert_type(decoder.logits([5, 6]), NDArray[np.float32])
assert_type(decoder.logits(["x", "y"]), list[NDArray[np.float32]])
assert_type(decoder.logits([[5, 6], [7]]), list[NDArray[np.float32]])
assert_type(decoder.logits(np.array([5])), Any)
assert_type(decoder.log_probs("x"), NDArray[np.float64])
assert_type(decoder.log_probs(["x"]), list[NDArray[np.float64]])
assert_type(decoder.vocabulary["x"], Token)
assert_type(decoder.vocabulary[5], Token)
assert_type(decoder.vocabulary[np.int64(5)], Token)
assert_type(decoder.vocabulary[5:7], Tokens)
with Decoder.from_pretrained(Path("x"), device="cpu") as opened:
    assert_type(opened, Decoder)
Decoder.from_pretrained(5)  # refused
fastdecode.unload()
fastdecode.unload(Path("x"))
scores = fastdecode.score(["x", "y"], context=["a", "b"], dtype="int8", model="demo")
assert_type(scores[:1], Scores)
assert_type(scores.entropies, list[list[float | None]])
assert_type(scores[0].entropies, list[float | None])
fastdecode.score("x", context=5)  # refused
fastdecode.score("x", modle="demo")  # refused
fastdecode.score(found)
fastdecode.compare([[5, 6], [7]], engine="native")
fastdecode.surprising(["x", "y"], device="cpu")
fastdecode.tokens("x", dtype="float32")
fastdecode.vocabulary(model="demo", revision=None)
assert_type(fastdecode.classify("x", ["a", "b"]), Classification)
assert_type(fastdecode.classify(["x"], ["a", "b"]), Classifications)
fastdecode.classify("x", ["a", "b"], model="demo", dtype="int8", device="cpu")
fastdecode.classify("x", ["a", "b"], dvice="cpu")  # refused

options = {"temperature": 0.8, "top_k": 5}
fastdecode.generate("x", tokenizer=None, **options)  # type: ignore[arg-type]
