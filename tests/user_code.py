"""Code as users write it, for type checkers; each line marked "refused" must be refused.

`test_user_code.py` has mypy and pyright read this file. Nothing runs it.
"""

from typing import assert_type

import fastdecode
from fastdecode import Beam, Classification, Classifications, Decoder, Generations, Sample

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

for step in fastdecode.stream("x", seed=7, max_length=40, strategy=Beam(2)):
    assert_type(step.text, str)
fastdecode.stream("x", progress=True)  # refused
fastdecode.stream("x", seed="seven")  # refused

fastdecode.next_token("x", 5, min_p=0.1)
fastdecode.next_token("x", max_new_tokens=3)  # refused

decoder = Decoder.from_pretrained("demo", engine="native")
decoder.generate("x", repetition_penalty=1.2, eos_token_id=[0])
decoder.generate("x", repetition_penalti=1.2)  # refused
decoder.stream("x", top_p="0.9")  # refused
assert_type(decoder.encode("x"), list[int])
assert_type(decoder.encode(["x"]), list[list[int]])
assert_type(fastdecode.classify("x", ["a", "b"]), Classification)
assert_type(fastdecode.classify(["x"], ["a", "b"]), Classifications)

options = {"temperature": 0.8, "top_k": 5}
fastdecode.generate("x", tokenizer=None, **options)  # type: ignore[arg-type]
