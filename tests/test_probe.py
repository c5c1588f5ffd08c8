"""Models whose forward pass does not understand every call: found out, and run in another way."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import transformers
from fastdecode import Decoder
from fastdecode.models.engines.transformers import limits
from fastdecode.models.engines.transformers.cache_rows import selected
from fastdecode.models.engines.transformers.engine import TorchEngine
from fastdecode.models.engines.transformers.forward import Forward, Signature, unwrapped
from tiny_models import BERT_LIKE, DECODER_OF_SEQ2SEQ, LLAMA_LIKE, VOCAB, long_rope, sharp, tiny

MODELS = {
    "llama": ("padded", lambda: tiny("LlamaForCausalLM", **LLAMA_LIKE)),
    "gpt2": (
        "padded",
        lambda: tiny("GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=4, n_positions=64),
    ),
    "mistral, window 6": (
        "padded",
        lambda: tiny("MistralForCausalLM", sliding_window=6, **LLAMA_LIKE),
    ),
    "mixtral": (
        "padded",
        lambda: tiny("MixtralForCausalLM", num_local_experts=4, **LLAMA_LIKE),
    ),
    "doge": (
        "padded",
        lambda: tiny("DogeForCausalLM", keep_window_size=32, **LLAMA_LIKE),
    ),
    "mpt": ("padded", lambda: tiny("MptForCausalLM", d_model=32, n_heads=4, n_layers=2)),
    "roberta": ("padded", lambda: tiny("RobertaForCausalLM", **BERT_LIKE)),
    "bert": ("padded", lambda: tiny("BertLMHeadModel", **BERT_LIKE)),
    "phi3, long rope": ("padded", lambda: long_rope("Phi3ForCausalLM")),
    "mamba": (
        "padded",
        lambda: tiny("MambaForCausalLM", hidden_size=32, num_hidden_layers=2, state_size=8),
    ),
    "mamba2": (
        None,
        lambda: tiny(
            "Mamba2ForCausalLM",
            hidden_size=32,
            num_hidden_layers=2,
            state_size=8,
            num_heads=8,
            head_dim=8,
            n_groups=2,
            chunk_size=8,
        ),
    ),
    "recurrent gemma": (
        "fixed rows",
        lambda: tiny(
            "RecurrentGemmaForCausalLM",
            hidden_size=32,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=1,
            lru_width=32,
            attention_window_size=16,
        ),
    ),
    "bart": ("equal lengths", lambda: tiny("BartForCausalLM", **DECODER_OF_SEQ2SEQ)),
    "bart, fewer decoder layers": (
        "equal lengths",
        lambda: tiny("BartForCausalLM", **{**DECODER_OF_SEQ2SEQ, "decoder_layers": 1}),
    ),
    "bart, more decoder layers": (
        "equal lengths",
        lambda: tiny("BartForCausalLM", **{**DECODER_OF_SEQ2SEQ, "decoder_layers": 3}),
    ),
    "mbart": ("equal lengths", lambda: tiny("MBartForCausalLM", **DECODER_OF_SEQ2SEQ)),
    "marian": ("equal lengths", lambda: tiny("MarianForCausalLM", **DECODER_OF_SEQ2SEQ)),
    "trocr": (
        "equal lengths",
        lambda: tiny(
            "TrOCRForCausalLM",
            d_model=32,
            decoder_layers=2,
            decoder_attention_heads=4,
            decoder_ffn_dim=48,
            max_position_embeddings=64,
        ),
    ),
    "whisper": (
        "equal lengths",
        lambda: tiny(
            "WhisperForCausalLM",
            **{**DECODER_OF_SEQ2SEQ, "max_target_positions": 64, "max_source_positions": 64},
        ),
    ),
    "openai gpt": (
        "no cache",
        lambda: tiny("OpenAIGPTLMHeadModel", n_embd=32, n_layer=2, n_head=4, n_positions=64),
    ),
    # Its steps mix the rows of a batch.
    "rwkv": (
        "one at a time",
        lambda: tiny("RwkvForCausalLM", hidden_size=32, num_hidden_layers=2, context_length=64),
    ),
}
# Lengths of prompts: some equal, some not, and on both sides of LongRoPE's border.
LENGTHS = (5, 9, 3, 9, 14, 17)
STEPS = 5


def prompts_of(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, VOCAB - 1, length).tolist() for length in lengths]


@torch.inference_mode()
def plain(model, ids):
    """The logits of the last of `ids`, by a pass of the model over this sequence alone."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()


def close(found, expected):
    spread = float(expected.std())
    torch.testing.assert_close(found.float(), expected, atol=2e-3 * spread, rtol=1e-3)


def run(engine, batch, logits, rows, model, steps=STEPS):
    """Greedy steps of a batch whose rows are `rows`, each checked against a plain pass."""
    for _ in range(steps):
        for row, ids in zip(logits, rows, strict=True):
            close(row, plain(model, ids))
        tokens = logits.float().argmax(-1).numpy()
        for ids, token in zip(rows, tokens.tolist(), strict=True):
            ids.append(token)
        logits = batch.step(tokens)
    return logits


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    mode, build = MODELS[request.param]
    model = build()
    return mode, model, TorchEngine(model)


def test_what_the_probe_finds(case):
    mode, _, engine = case
    assert mode in (None, engine.capabilities.mode)
    assert engine.vocab_size == VOCAB
    assert engine.bytes_per_token >= 1


def test_a_ragged_batch_is_each_row_alone(case):
    _, model, engine = case
    prompts = prompts_of()
    rows = [list(prompt) for prompt in prompts]
    batch, logits = engine.start(prompts, [1] * len(prompts))
    run(engine, batch, logits, rows, model, 8)


def test_rows_are_doubled_reordered_and_dropped(case):
    _, model, engine = case
    prompts = prompts_of((4, 7, 4))
    rows = [list(prompts[i]) for i in (0, 0, 1, 2)]
    batch, logits = engine.start(prompts, [2, 1, 1])
    logits = run(engine, batch, logits, rows, model, 2)
    for kept in ([3, 0, 0, 2, 1], [1, 2, 4], [2, 0], [1], [0, 0]):
        batch.keep(np.array(kept))
        rows, logits = [list(rows[i]) for i in kept], logits[kept]
        logits = run(engine, batch, logits, rows, model, 2)


def test_prompts_of_one_token(case):
    _, model, engine = case
    prompts = prompts_of((1, 4, 1))
    run(engine, *engine.start(prompts_of((1,), seed=3), [1]), prompts_of((1,), seed=3), model, 2)
    for chosen in ([0], [0, 1, 2]):
        for repeats in (1, 3):
            rows = [list(prompts[i]) for i in chosen for _ in range(repeats)]
            starts = [prompts[i] for i in chosen]
            run(engine, *engine.start(starts, [repeats] * len(chosen)), rows, model, 3)


def test_two_batches_and_scoring_do_not_disturb_each_other(case):
    _, model, engine = case
    one, other = prompts_of((6, 4)), prompts_of((5,), seed=1)
    rows, others = [list(p) for p in one], [list(p) for p in other]
    batch, logits = engine.start(one, [1, 1])
    second, more = engine.start(other, [1])
    for _ in range(3):
        logits = run(engine, batch, logits, rows, model, 1)
        list(engine.all_logits(prompts_of((3, 8), seed=2)))
        more = run(engine, second, more, others, model, 1)


def test_scores_are_the_logits_of_generation(case):
    _, model, engine = case
    sequences = prompts_of((3, 9, 9, 5, 18))
    for sequence, logits in zip(sequences, engine.all_logits(sequences), strict=True):
        assert logits.shape == (len(sequence), VOCAB)
        for end in range(1, len(sequence) + 1):
            close(logits[end - 1], plain(model, sequence[:end]))


# For RoBERTa, transformers' own `generate` numbers positions from 0 and its forward pass from
# padding_idx + 1, as it was trained; and it fails where a decoder has more layers than the encoder.
@pytest.mark.parametrize("name", sorted(set(MODELS) - {"roberta", "bart, more decoder layers"}))
def test_greedy_texts_are_those_of_transformers(name):
    model = MODELS[name][1]()
    engine = TorchEngine(model)
    prompts = prompts_of((5, 9, 14))
    batch, logits = engine.start(prompts, [1] * 3)
    found = []
    for _ in range(6):
        found.append(logits.float().argmax(-1).tolist())
        logits = batch.step(np.array(found[-1]))
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=6,
            eos_token_id=None,
            forced_eos_token_id=None,
            pad_token_id=1,
        )
        assert [tokens[row] for tokens in found] == theirs[0, len(prompt) :].tolist()


# Which models are refused, and why.


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda: tiny("BertForMaskedLM", **{**BERT_LIKE, "is_decoder": False}),
            "BertForMaskedLM is not a causal language model: a later token changes earlier logits",
        ),
        (
            lambda: tiny("BertLMHeadModel", **{**BERT_LIKE, "is_decoder": False}),
            "load it with is_decoder=True",
        ),
        (
            lambda: tiny("RobertaForMaskedLM", **{**BERT_LIKE, "is_decoder": False}),
            "RobertaForMaskedLM is not a causal language model",
        ),
        (
            lambda: tiny(
                "T5ForConditionalGeneration", d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4
            ),
            "T5ForConditionalGeneration is an encoder-decoder model",
        ),
        (
            lambda: tiny("BartForConditionalGeneration", **DECODER_OF_SEQ2SEQ),
            "BartForConditionalGeneration is an encoder-decoder model",
        ),
        (
            lambda: tiny("XLNetLMHeadModel", d_model=32, n_layer=2, n_head=4, d_inner=48),
            "XLNetLMHeadModel is not supported",
        ),
        (
            lambda: tiny("XLMWithLMHeadModel", emb_dim=32, n_layers=2, n_heads=4),
            "XLMWithLMHeadModel is",
        ),
        (
            lambda: tiny("XLMWithLMHeadModel", emb_dim=32, n_layers=2, n_heads=4, causal=True),
            "XLMWithLMHeadModel is not supported: its prepare_inputs_for_generation",
        ),
        (
            lambda: tiny(
                "CpmAntForCausalLM",
                hidden_size=32,
                num_attention_heads=4,
                dim_head=8,
                dim_ff=48,
                num_hidden_layers=2,
            ),
            "CpmAntForCausalLM is not a causal language model",
        ),
        (lambda: of_class(Peeking), "Peeking is not a causal language model"),
    ],
    ids=[
        "bert-mlm",
        "bert",
        "roberta-mlm",
        "t5",
        "bart-seq2seq",
        "xlnet",
        "xlm",
        "xlm-causal",
        "cpmant",
        "peeking",
    ],
)
def test_what_is_no_causal_language_model_is_refused(build, reason, tokenizer):
    with pytest.raises(ValueError, match=reason):
        Decoder(build(), tokenizer)


def test_a_model_that_does_not_give_a_row_for_each_token_is_refused(tokenizer):
    model = tiny("LlamaForCausalLM", **LLAMA_LIKE)
    forward = model.forward

    def last_only(*args, **kwargs):
        return forward(*args, **{**kwargs, "logits_to_keep": 1})

    model.forward = last_only
    with pytest.raises(ValueError, match="LlamaForCausalLM cannot be run as a causal language mod"):
        Decoder(model, tokenizer)


# A cache that is dropped, misnamed or damaged.


class Deaf(transformers.LlamaForCausalLM):
    """Ignores its cache, as a model does that has never heard of the argument."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **kwargs):
        kwargs.pop("cache", None), kwargs.pop("past_key_values", None)
        return super().forward(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )


class Renamed(transformers.LlamaForCausalLM):
    """Takes the cache by a name that a later transformers may give it."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, **kwargs):
        name = next(n for n in ("cache", "past_key_values") if n in Signature(LLAMA)._names)
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{name: cache},
            **kwargs,
        )


class Old(Renamed):
    """The same with the name that it has had."""

    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, **kwargs
    ):
        return super().forward(
            input_ids, attention_mask, position_ids, cache=past_key_values, **kwargs
        )


class Unnumbered(transformers.LlamaForCausalLM):
    """Numbers its tokens by the columns of the batch, padding included."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **kwargs):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)


class Unmasked(transformers.LlamaForCausalLM):
    """Attends to padding."""

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return super().forward(input_ids=input_ids, **kwargs)


class Forgetful(transformers.LlamaForCausalLM):
    """Breaks where its cache has another number of rows than before."""

    def forward(self, input_ids=None, **kwargs):
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        rows = len(input_ids)
        if cache is not None:
            if getattr(cache, "made_for", rows) != rows:
                raise RuntimeError("the cache has been reordered")
            cache.made_for = rows
        return super().forward(input_ids=input_ids, **kwargs)


class Peeking(transformers.LlamaForCausalLM):
    """Sees the next token, from its second one on."""

    def forward(self, input_ids=None, **kwargs):
        output = super().forward(input_ids=input_ids, **kwargs)
        output.logits[:, 1:-1] += output.logits[:, 2:] / 50
        return output


class Coupled(transformers.LlamaForCausalLM):
    """Mixes the rows of a batch."""

    def forward(self, input_ids=None, **kwargs):
        output = super().forward(input_ids=input_ids, **kwargs)
        output.logits = output.logits + (output.logits.sum(0, keepdim=True) - output.logits)
        return output


LLAMA = tiny("LlamaForCausalLM", **LLAMA_LIKE)


def of_class(kind):
    model = tiny("LlamaForCausalLM", **LLAMA_LIKE)
    model.__class__ = kind
    return model


@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        (Deaf, "no cache", None),
        (Renamed, "padded", "cache"),
        (Old, "padded", "past_key_values"),
        (Unnumbered, "padded", None),
        (Unmasked, "equal lengths", None),
        (Forgetful, "fixed rows", None),
        (Coupled, "one at a time", None),
    ],
)
def test_models_that_misunderstand(kind, mode, name):
    model = of_class(kind)
    engine = TorchEngine(model)
    assert engine.capabilities.mode == mode
    if name is not None:
        assert engine.capabilities.convention.cache_name == name
    prompts = prompts_of((4, 7, 4))
    rows = [list(prompts[i]) for i in (0, 0, 1, 2)]
    batch, logits = engine.start(prompts, [2, 1, 1])
    logits = run(engine, batch, logits, rows, LLAMA, 2)
    for kept in ([3, 0, 0, 2], [1, 2]):
        batch.keep(np.array(kept))
        rows, logits = [list(rows[i]) for i in kept], logits[kept]
        logits = run(engine, batch, logits, rows, LLAMA, 2)
    for sequence, logits in zip(prompts, engine.all_logits(prompts), strict=True):
        close(logits[-1], plain(LLAMA, sequence))


def test_the_switch_trusts_the_signature(tokenizer):
    calls = []
    model = tiny("LlamaForCausalLM", **LLAMA_LIKE)
    model.register_forward_pre_hook(lambda *a: calls.append(1))
    decoder = Decoder(model, tokenizer, probe=False)
    assert calls == []
    assert decoder.engine.capabilities.mode == "padded"
    Decoder(model, tokenizer)
    assert 0 < len(calls) <= 12
    with pytest.raises(ValueError, match="encoder-decoder"):
        Decoder(tiny("BartForConditionalGeneration", **DECODER_OF_SEQ2SEQ), tokenizer, probe=False)


def test_the_probe_consumes_no_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    TorchEngine(tiny_after_seed())
    expected = torch.get_rng_state()
    torch.set_rng_state(before)
    tiny_after_seed()
    assert torch.equal(torch.get_rng_state(), expected)


def tiny_after_seed():
    model = tiny("MixtralForCausalLM", num_local_experts=4, **LLAMA_LIKE)
    torch.manual_seed(4)
    model.register_forward_pre_hook(lambda *a: None if torch.rand(1) < 2 else a)
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "mixtral", "mistral, window 6"])
def test_no_false_alarm_in_other_dtypes(name, dtype):
    if (name, dtype) == ("mixtral", torch.float64):
        pytest.skip("transformers' Mixtral does not run in float64")
    model = MODELS[name][1]().to(dtype)
    assert TorchEngine(model).capabilities.mode == "padded"


@pytest.mark.parametrize("factor", [1.0, 6.0, 20.0])
def test_no_false_alarm_with_other_weights(factor):
    model = sharp(tiny("MixtralForCausalLM", num_local_experts=4, **LLAMA_LIKE), factor=factor)
    assert TorchEngine(model).capabilities.mode == "padded"
    model = sharp(tiny("BertForMaskedLM", **{**BERT_LIKE, "is_decoder": False}), factor=factor)
    with pytest.raises(ValueError, match="not a causal language model"):
        TorchEngine(model)


# What a few tokens cannot see.


@pytest.mark.parametrize(
    ("build", "context"),
    [
        (lambda: tiny("RobertaForCausalLM", **BERT_LIKE), 64),
        (lambda: tiny("MptForCausalLM", d_model=32, n_heads=4, n_layers=2, max_seq_len=24), 24),
        (lambda: tiny("BartForCausalLM", **DECODER_OF_SEQ2SEQ), 64),
        (MODELS["whisper"][1], 64),
        (MODELS["gpt2"][1], 64),
        (MODELS["openai gpt"][1], 64),
        (MODELS["doge"][1], 32),
        (MODELS["mamba"][1], None),
    ],
    ids=["roberta", "mpt", "bart", "whisper", "gpt2", "openai", "doge", "mamba"],
)
def test_the_context_can_be_filled_to_its_end(build, context, tokenizer):
    model = build()
    engine = TorchEngine(model)
    assert engine.context == context
    if context is None:
        return
    (prompt,) = prompts_of((context - 2,))
    rows = [list(prompt)]
    batch, logits = engine.start([prompt], [1])
    run(engine, batch, logits, rows, model, 2)
    assert len(rows[0]) == context


def test_a_text_ends_with_its_context(tokenizer):
    model = tiny(
        "MptForCausalLM", vocab_size=300, d_model=32, n_heads=4, n_layers=2, max_seq_len=24
    )
    decoder = Decoder(model, tokenizer)
    (found,) = decoder.generate("Once upon a time", max_new_tokens=100, eos_token_id=[])
    assert found.finish_reason == "context"
    with pytest.raises(ValueError, match="24"):
        decoder.generate("Once upon a time there was a little girl " * 4)


@pytest.mark.parametrize("architecture", ["Phi3ForCausalLM", "LlamaForCausalLM"])
def test_long_rope_border(architecture):
    model = long_rope(architecture)
    engine = TorchEngine(model)
    assert engine.capabilities.border == 16
    # Rows below, at, and above the border, of which some cross it.
    prompts = prompts_of((5, 13, 15, 16, 17, 20))
    rows = [list(prompt) for prompt in prompts]
    batch, logits = engine.start(prompts, [1] * 6)
    logits = run(engine, batch, logits, rows, model, 3)
    batch.keep(np.array([5, 0, 0, 2]))
    rows, logits = [list(rows[i]) for i in (5, 0, 0, 2)], logits[[5, 0, 0, 2]]
    run(engine, batch, logits, rows, model, 12)


def test_long_rope_is_that_of_transformers():
    model = long_rope("Phi3ForCausalLM")
    engine = TorchEngine(model)
    for prompt in prompts_of((4, 15, 16, 17)):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=None,
            pad_token_id=1,
        )[0, len(prompt) :].tolist()
        batch, logits = engine.start([prompt], [1])
        found = []
        for _ in range(20):
            found.append(int(logits.float().argmax()))
            logits = batch.step(np.array(found[-1:]))
        assert found == theirs


def test_blocks_of_columns_are_not_padded():
    class Config:
        def __init__(self, **settings):
            vars(self).update(settings)

        def get_text_config(self, decoder):
            return self

    class Model:
        def __init__(self, **settings):
            self.config = Config(**settings)

    for settings in (
        {"index_block_size": 128},
        {"compress_rates": {"a": 4}},
        {"compress_ratios": [4]},
    ):
        assert limits.blocks_by_columns(Model(**settings))
    for settings in (
        {},
        {"compress_rates": None},
        {"compress_rope_theta": 1e4},
        {"block_size": 64},
    ):
        assert not limits.blocks_by_columns(Model(**settings))


def test_roberta_numbers_padding_tokens_in_a_text_as_its_forward_pass_does():
    model = tiny("RobertaForCausalLM", **BERT_LIKE)
    engine = TorchEngine(model)
    prompts = [[5, 1, 7, 1, 9], [1, 4, 6], [8, 3, 1]]
    rows = [list(prompt) for prompt in prompts]
    batch, logits = engine.start(prompts, [1, 1, 1])
    for _ in range(3):
        for row, ids in zip(logits, rows, strict=True):
            close(row, plain(model, ids))
        for ids in rows:
            ids.append(6)
        logits = batch.step(np.array([6, 6, 6]))


def test_an_estimate_of_the_cache_never_fails():
    class Refusing:
        num_hidden_layers = 2

        @property
        def num_attention_heads(self):
            raise RuntimeError("layers differ")

    class Model:
        dtype = torch.float32

        class config:
            @staticmethod
            def get_text_config(decoder):
                return Refusing()

    assert limits.cache_bytes(Model()) >= 1


def test_the_cache_of_a_token_is_measured():
    engine = TorchEngine(tiny("LlamaForCausalLM", **LLAMA_LIKE))
    assert engine.bytes_per_token == 2 * 2 * 2 * 8 * 4
    assert TorchEngine(MODELS["mamba"][1]()).bytes_per_token == 1


# Wrappers.


class Counting:
    """A backend of torch.compile that counts what it is given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("how", ["wrapped", "in place", "by layers"])
def test_a_compiled_model_is_looked_through(how):
    model, plain_model, backend = MODELS["gpt2"][1](), MODELS["gpt2"][1](), Counting()
    torch._dynamo.reset()
    if how == "wrapped":
        model = torch.compile(model, backend=backend)
        assert type(unwrapped(model)) is type(plain_model)
    elif how == "in place":
        model.compile(backend=backend)
    else:
        for layer in model.transformer.h:
            layer.compile(backend=backend)
    engine = TorchEngine(model)
    assert backend.graphs == 0
    assert engine.capabilities.mode == "padded"
    assert engine.capabilities.convention.positions is not None
    prompts = prompts_of((5, 9, 3))
    rows = [list(prompt) for prompt in prompts]
    batch, logits = engine.start(prompts, [1, 1, 1])
    run(engine, batch, logits, rows, plain_model, 3)
    assert backend.graphs > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_model_compiled_to_machine_code():
    torch._dynamo.reset()
    model = MODELS["gpt2"][1]()
    engine = TorchEngine(torch.compile(model))
    prompts = prompts_of((5, 9, 3))
    rows = [list(prompt) for prompt in prompts]
    batch, logits = engine.start(prompts, [1, 1, 1])
    run(engine, batch, logits, rows, model, 3)


@pytest.mark.parametrize("kind", ["lora", "prompt", "prefix", "p-tuning"])
def test_peft(kind):
    peft = pytest.importorskip("peft", reason="peft is not a development extra")
    settings = {
        "lora": lambda: peft.LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False),
        "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        "p-tuning": lambda: peft.PromptEncoderConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=16
        ),
    }
    model = peft.get_peft_model(MODELS["gpt2"][1](), settings[kind]()).eval()
    engine = TorchEngine(model)
    assert engine.context == (64 if kind == "lora" else 61)
    if kind == "lora":
        assert engine.capabilities.mode == "padded"
    prompts = prompts_of((5, 9, 3, 9))
    rows = [list(prompt) for prompt in prompts]
    batch, logits = engine.start(prompts, [1] * 4)
    run(engine, batch, logits, rows, model, 3)


def test_forward_is_called_by_the_names_of_its_signature():
    signature = Signature(MODELS["mamba"][1]())
    assert signature.cache_names()
    assert not signature.names("past_key_values") or signature.takes("past_key_values")
    assert Forward(LLAMA, TorchEngine(LLAMA).capabilities.convention).device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bart", "marian", "whisper", "mamba", "rwkv", "openai gpt"])
def test_other_dtypes_hide_nothing(name, dtype):
    mode, build = MODELS[name]
    assert TorchEngine(build().to(dtype)).capabilities.mode == mode


def test_any_state_made_of_tensors_is_reordered():
    class State:
        def __init__(self):
            self.steps = torch.tensor([4])
            self.layers = {0: (torch.arange(6).view(3, 2), [torch.arange(3)])}
            self.name = "state"

    found = selected(State(), torch.tensor([2, 0, 0, 1]), 3)
    assert found.steps.tolist() == [4]
    assert found.layers[0][0].tolist() == [[4, 5], [0, 1], [0, 1], [2, 3]]
    assert found.layers[0][1][0].tolist() == [2, 0, 0, 1]
    assert found.name == "state"
