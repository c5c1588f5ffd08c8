"""GGUF files: the container, and the elements of quantised tensors against the package `gguf`."""

from __future__ import annotations

import numpy as np
import pytest
from fastdecode._core import GgufFile
from gguf_files import smollm2, write

# Number in ggml, elements and bytes of a block, and where each block has float16 scales.
ENCODINGS = {
    "F32": (0, 1, 4, ()),
    "F16": (1, 1, 2, ()),
    "BF16": (30, 1, 2, ()),
    "Q4_0": (2, 32, 18, (0,)),
    "Q4_1": (3, 32, 20, (0, 2)),
    "Q5_0": (6, 32, 22, (0,)),
    "Q5_1": (7, 32, 24, (0, 2)),
    "Q8_0": (8, 32, 34, (0,)),
    "IQ4_NL": (20, 32, 18, (0,)),
    "Q2_K": (10, 256, 84, (80, 82)),
    "Q3_K": (11, 256, 110, (108,)),
    "Q4_K": (12, 256, 144, (0, 2)),
    "Q5_K": (13, 256, 176, (0, 2)),
    "Q6_K": (14, 256, 210, (208,)),
}
# Zero of either sign, the smallest and the largest subnormal, one, the largest number, infinity,
# and NaN, quiet and signalling.
HOSTILE = (0x0000, 0x8000, 0x0001, 0x03FF, 0x3C00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x7D01)


def blocks_of(encoding: str, seed: int, rows: int = 24, width: int = 1024) -> np.ndarray:
    """Random blocks: a third of them with ordinary scales, and a third with hostile ones."""
    _, elements, size, scales = ENCODINGS[encoding]
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (rows * width // elements, size), dtype=np.uint8)
    for place in scales:
        ordinary = rng.normal(0, 0.01, len(blocks)).astype("<f2").view("<u2")
        hostile = rng.choice(np.array(HOSTILE, dtype="<u2"), len(blocks))
        which = rng.integers(0, 3, len(blocks))
        found = np.where(which == 0, ordinary, hostile).astype("<u2").view(np.uint8).reshape(-1, 2)
        blocks[which < 2, place : place + 2] = found[which < 2]
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_elements_are_those_of_the_reference(encoding, tmp_path):
    gguf = pytest.importorskip("gguf")
    number, elements, size, _ = ENCODINGS[encoding]
    for seed in range(3):
        raw = blocks_of(encoding, seed)
        path = write(tmp_path / "x.gguf", {}, {"x": raw}, {"x": (number, elements, size)})
        got = GgufFile(path).tensor("x")
        with np.errstate(all="ignore"):
            expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(number))
        assert got.shape == expected.shape == (24, 1024)
        nan = np.isnan(expected)
        # Which NaN it is differs between processors.
        assert np.array_equal(np.isnan(got), nan)
        assert np.array_equal(got.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])
        assert encoding in ("F32", "F16", "BF16") or 0 < nan.mean() < 0.9


def test_q8_k_is_a_scale_and_bytes(tmp_path):
    """The package `gguf` does not have it, since it stands for activations."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (5, 292), dtype=np.uint8)
    raw[:, :4] = rng.normal(0, 1, 5).astype("<f4").view(np.uint8).reshape(5, 4)
    path = write(tmp_path / "x.gguf", {}, {"x": raw}, {"x": (15, 256, 292)})
    expected = raw[:, :4].copy().view("<f4") * raw[:, 4:260].view(np.int8).astype(np.float32)
    assert np.array_equal(GgufFile(path).tensor("x"), expected)


def test_metadata_is_plain_values(tmp_path):
    metadata = {
        "general.architecture": "llama",
        "a.bool": True,
        "b.number": 7,
        "c.float": 0.1,
        "d.strings": ["", "ä", "b"],
        "e.nested": [[1, 2], [3]],
        "f.empty": [],
    }
    file = GgufFile(write(tmp_path / "x.gguf", metadata, {"x": np.ones((2, 3), np.float32)}))
    assert (file.version, file.alignment, len(file)) == (3, 32, 7)
    assert file.nbytes == (tmp_path / "x.gguf").stat().st_size
    assert file.keys() == sorted(metadata)
    assert {key: file[key] for key in metadata} == metadata | {"c.float": float(np.float32(0.1))}
    assert "b.number" in file
    assert "b" not in file
    assert 7 not in file
    with pytest.raises(KeyError, match="b"):
        file["b"]
    assert file.tensors() == [("x", (2, 3), "F32")]
    assert file.tensor("x").tolist() == [[1, 1, 1], [1, 1, 1]]


def test_what_is_refused(tmp_path):
    path = tmp_path / "x.gguf"
    with pytest.raises(FileNotFoundError):
        GgufFile(path)
    path.write_bytes(b"not a model, but long enough to be one")
    with pytest.raises(
        ValueError, match=r"x\.gguf: this is not a GGUF file: it begins with \"not \""
    ):
        GgufFile(path)
    write(path, {}, {"x": np.ones(4, np.float32)}, {"x": (26, 1, 4)})
    file = GgufFile(path)
    with pytest.raises(ValueError, match=r"the tensor \"x\" is stored as I32, which is not read"):
        file.tensor("x")
    with pytest.raises(ValueError, match=r"the file has no tensor \"y\""):
        file.tensor("y")
    with pytest.raises(TypeError, match="name must be"):
        file.tensor(7)
    with pytest.raises(TypeError, match="path must be"):
        GgufFile(7)


def test_a_file_that_is_cut_after_it_was_opened(tmp_path):
    path = write(tmp_path / "x.gguf", {}, {"x": np.ones((100, 100), np.float32)})
    file = GgufFile(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match=r"x\.gguf cannot be read"):
        file.tensor("x")


@pytest.mark.real
def test_smollm2_is_that_of_the_reference():
    gguf = pytest.importorskip("gguf")
    path = smollm2()
    file = GgufFile(path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert {name for name, _, _ in file.tensors()} == set(tensors)
    for name, shape, kind in file.tensors():
        tensor = tensors[name]
        assert (shape, kind) == (tuple(map(int, tensor.shape[::-1])), tensor.tensor_type.name)
        if name.startswith(("token_embd", "blk.0", "blk.29", "output")):
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(file.tensor(name), expected), name
    assert len(file["tokenizer.ggml.tokens"]) == 49_152
    assert len(file["tokenizer.ggml.merges"]) == 48_900
