"""Damaged packed files: a result, or a `ValueError` that names the file and what is wrong in it."""

from __future__ import annotations

import contextlib
import random
import shutil
import warnings

import pytest
from damage import DAMAGES
from fastdecode import Decoder, fingerprint
from fastdecode._core import PackedFile
from fastdecode.models.packed.writing import pack
from gguf_models import complete

COUNT = DAMAGES or 100
# How a message goes on after the name of the file.
FAULTS = (
    "it is not a packed file",
    "its layout has version",
    "so it is incomplete or damaged",
    "its header is damaged",
    "its contents are damaged",
)


def mutated(rng: random.Random, whole: bytes) -> bytes:
    """A file with a few of its bytes changed, cut out, doubled or left out at the end."""
    raw = bytearray(whole)
    for _ in range(rng.choice([1, 1, 2, 5])):
        end = rng.choice([64, 4000, len(raw)])
        at = rng.randrange(max(1, min(end, len(raw))))
        how = rng.randrange(5)
        if how == 0:
            raw[at : at + 1] = bytes([rng.randrange(256)])
        elif how == 1:
            raw[at : at + 8] = rng.choice([0, 1, 2**31, 2**40, 2**64 - 1]).to_bytes(8, "little")
        elif how == 2:
            del raw[at : at + rng.choice([1, 8, 64, 5000])]
        elif how == 3:
            raw[at:at] = raw[at : at + rng.choice([1, 8, 64])]
        else:
            del raw[at:]
    return bytes(raw)


def tried(path) -> str | None:
    """The message of a refusal; None for a result. Any other error is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoder = Decoder.from_pretrained(path)
        except ValueError as error:
            return str(error)
        try:
            decoder.generate(["the", "Once upon a time"], max_new_tokens=2, seed=1, top_p=0.9)
        except ValueError:
            # Weights are not compared with their checksum at a start.
            with pytest.raises(ValueError, match='the checksum of "weights"'):
                PackedFile(path).check()
    return None


@pytest.mark.parametrize("source", ["demo", "gguf"])
@pytest.mark.parametrize("dtype", ["float32", "int4"])
def test_a_result_or_an_error_that_names_the_file(tmp_path, source, dtype):
    model = "demo" if source == "demo" else str(complete(tmp_path))
    path = tmp_path / "x.fastdecode"
    pack(model, path, dtype=dtype)
    assert tried(path) is None
    rng, good, refused = random.Random(f"{source} {dtype}"), path.read_bytes(), 0
    for _ in range(COUNT):
        path.write_bytes(mutated(rng, good))
        try:
            message = tried(path)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}") from error
        if message is not None:
            refused += 1
            assert f"{path}: " in message, message
            assert any(fault in message for fault in FAULTS), message
        with contextlib.suppress(ValueError):
            fingerprint(path)
    print(f"{source} {dtype}: {refused} of {COUNT} refused")
    assert refused > COUNT / 2


def test_a_whole_file_that_says_nothing_of_its_source(tmp_path):
    """A fingerprint needs it; nothing else does."""
    decoder = Decoder.from_pretrained("demo", dtype="int4")
    good = PackedFile(pack("demo", tmp_path / "good.fastdecode", dtype="int4").path)
    files = {name: good.read(name) for name in good.names}
    path = tmp_path / "x.fastdecode"
    for source in ("", "{}", "[1]", '{"name": 1}', "{" * 100):
        path.write_bytes(b"".join(decoder.engine.packed().pack(files, source)))
        assert tried(path) is None
        with pytest.raises(ValueError, match=r"x\.fastdecode, source"):
            fingerprint(path)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("tokenizer.json", b"{", r"x\.fastdecode/tokenizer\.json"),
        ("tokenizer_config.json", b"[]", r"x\.fastdecode/tokenizer_config\.json: it must be"),
        (
            "generation_config.json",
            b'{"eos_token_id": "x"}',
            r"generation_config\.json: eos_",
        ),
        ("config.json", b"{}", "config"),
        ("chat_template.jinja", b"\xff", r"chat_template\.jinja, line 1: it is not UTF-8"),
    ],
)
def test_files_within_that_are_damaged_when_they_are_packed(tmp_path, name, contents, message):
    decoder = Decoder.from_pretrained("demo", dtype="int4")
    good = PackedFile(pack("demo", tmp_path / "good.fastdecode", dtype="int4").path)
    files = {one: good.read(one) for one in good.names} | {name: contents}
    path = tmp_path / "x.fastdecode"
    path.write_bytes(b"".join(decoder.engine.packed().pack(files, good.source)))
    with pytest.raises(ValueError, match=message):
        Decoder.from_pretrained(path)


def test_code_within_a_file_is_not_run(tmp_path):
    """Settings that name Python classes, and a file of that name."""
    decoder = Decoder.from_pretrained("demo", dtype="int4")
    good = PackedFile(pack("demo", tmp_path / "good.fastdecode", dtype="int4").path)
    files = {one: good.read(one) for one in good.names}
    files["tokenizer_config.json"] = (
        b'{"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", null]}}'
    )
    marker = tmp_path / "ran"
    files["mine.py"] = f"open({str(marker)!r}, 'w')\nclass Mine: pass\n".encode()
    path = tmp_path / "x.fastdecode"
    path.write_bytes(b"".join(decoder.engine.packed().pack(files, good.source)))
    for trusted in (False, True):
        with contextlib.suppress(ValueError):
            Decoder.from_pretrained(path, trust_remote_code=trusted)
        assert not marker.exists()


def test_a_file_that_is_cut_while_a_decoder_runs(tmp_path):
    """Its weights are in memory."""
    pack("demo", tmp_path / "x.fastdecode")
    decoder = Decoder.from_pretrained(tmp_path / "x.fastdecode")
    before = decoder.logits([1, 2, 3]).tobytes()
    with open(tmp_path / "x.fastdecode", "r+b") as file:
        file.truncate(100)
    assert decoder.logits([1, 2, 3]).tobytes() == before
    shutil.rmtree(tmp_path)
    assert decoder.logits([1, 2, 3]).tobytes() == before
