"""Keywords of other systems: each works, or is refused with the reason and the name to use."""

from __future__ import annotations

import inspect
import math
import re
import warnings

import fastdecode
import numpy as np
import pytest
from fastdecode import Greedy, Sample
from fastdecode.options import foreign_names, keywords
from fastdecode.options.foreign_names import OFF, ROWS
from fastdecode.options.keyword_types import GenerateArguments

# Of those that choose a model, transformers' `generate` has one, too.
TAKEN = {*GenerateArguments.__annotations__, "trust_remote_code"}


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


# vLLM's SamplingParams (August 2026), BeamSearchParams, and what LLM.generate takes.
VLLM = words("""
n presence_penalty frequency_penalty repetition_penalty temperature top_p top_k min_p seed stop
stop_token_ids ignore_eos max_tokens min_tokens logprobs prompt_logprobs prompt_logprob_token_ids
prompt_logprob_start logprob_token_ids flat_logprobs detokenize skip_special_tokens
spaces_between_special_tokens include_stop_str_in_output output_kind stream_interval skip_clone
output_text_buffer_length structured_outputs logit_bias allowed_token_ids extra_args bad_words
skip_reading_prefix_cache thinking_token_budget repetition_detection routed_experts_prompt_start
trace_decode_token_ids best_of use_beam_search length_penalty beam_width guided_decoding
logits_processors truncate_prompt_tokens sampling_params use_tqdm lora_request priority
""")

# llama.cpp's command line ("--top-k" is top_k), its server's /completion, the sampling parameters
# of common.h (August 2026), and llama-cpp-python's create_completion and generate.
LLAMA_CPP = words("""
samplers seed sampler_seq sampling_seq ignore_eos temp temperature top_k top_p min_p top_nsigma
top_n_sigma xtc_probability xtc_threshold typical typical_p repeat_last_n repeat_penalty
presence_penalty frequency_penalty dry_multiplier dry_base dry_allowed_length dry_penalty_last_n
dry_sequence_breaker adaptive_target adaptive_decay dynatemp_range dynatemp_exp mirostat mirostat_lr
mirostat_ent logit_bias grammar grammar_file json_schema json_schema_file backend_sampling n predict
n_predict keep batch_size ctx_size threads gpu_layers n_gpu_layers reverse_prompt
n_indent n_keep n_discard stop stream mirostat_tau mirostat_eta dynatemp_exponent n_probs min_keep
t_max_predict_ms id_slot cache_prompt return_tokens timings_per_token return_progress
post_sampling_probs response_fields lora dry_sequence_breakers
n_prev typ_p penalty_last_n penalty_repeat penalty_freq penalty_present no_perf grammar_lazy
grammar_triggers tfs tfs_z
suffix max_tokens logprobs echo mirostat_mode model stopping_criteria logits_processor penalize_nl
reset n_ctx n_batch n_threads top_logprobs response_format tools functions function_call tool_choice
messages reasoning_budget control_vector ubatch_size
""")

# OpenAI's completions and chat completions.
OPENAI = words("""
n temperature top_p seed stop presence_penalty frequency_penalty logit_bias logprobs top_logprobs
max_tokens max_completion_tokens max_output_tokens best_of echo suffix stream stream_options user
store metadata service_tier response_format tools tool_choice parallel_tool_calls functions
function_call reasoning_effort verbosity modalities prediction messages model
""")


def of_transformers() -> list[str]:
    """Everything that the installed transformers' `generate` takes by name."""
    transformers = pytest.importorskip("transformers")
    generate = inspect.signature(transformers.GenerationMixin.generate).parameters
    forward = ["input_ids", "attention_mask", "inputs_embeds", "position_ids", "token_type_ids"]
    rest = ["assistant_tokenizer", "trust_remote_code", "past_key_values", "cache"]
    found = [*vars(transformers.GenerationConfig()), *generate, *forward, *rest]
    return [name for name in found if name not in ("self", "kwargs")]


def answered(name: str) -> bool:
    """Whether a keyword is taken, or refused by its name with a reason."""
    if name in TAKEN:
        return True
    message = keywords.unknown(name)
    return message.startswith(f"unknown keyword {name!r}: ")


def test_every_keyword_of_transformers_has_a_row():
    names = {row.name for row in ROWS if row.system == "transformers"}
    assert not set(of_transformers()) - names
    assert names - set(OFF) - {"logits_processor"} <= TAKEN


@pytest.mark.parametrize(
    ("system", "names"), [("vLLM", VLLM), ("llama.cpp", LLAMA_CPP), ("OpenAI", OPENAI)]
)
def test_every_keyword_of_others_is_answered(system, names):
    assert not [name for name in names if not answered(name)]
    rows = {row.name for row in ROWS if row.system == system}
    assert not rows - set(names)


def test_rows_are_unique_and_say_what_they_promise():
    assert len({(row.system, row.name) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        if row.verdict in ("works", "ignored"):
            assert row.name in TAKEN, row
        elif row.verdict in ("renamed", "refused"):
            # One system's function or keyword of another kind may be a name here.
            assert row.name not in TAKEN, row
            assert row.note or row.here
        if row.verdict == "renamed":
            code = re.sub("^the function |`", "", row.here)
            name = re.match(r"\w+", code)[0]
            assert name in TAKEN or hasattr(fastdecode, name), row


@pytest.mark.parametrize("row", [row for row in ROWS if row.verdict in ("renamed", "refused")])
def test_foreign_names_are_refused_with_what_to_use(decoder, row):
    with pytest.raises(TypeError) as caught:
        decoder.generate("Once", **{row.name: 1})
    message = str(caught.value)
    assert message.startswith(f"unknown keyword {row.name!r}: ")
    assert f"{row.system}'s" in message
    assert "`" not in message
    with pytest.raises(TypeError, match=f"unknown keyword '{row.name}'"):
        decoder.next_token("Once", **{row.name: 1})


def test_messages_by_name():
    assert keywords.unknown("max_tokens") == (
        "unknown keyword 'max_tokens': vLLM's, llama.cpp's and OpenAI's max_tokens is "
        "max_new_tokens here"
    )
    assert keywords.unknown("tfs_z") == (
        "unknown keyword 'tfs_z': llama.cpp's tfs_z is not available: tail-free sampling is "
        "not implemented; use min_p or typical_p"
    )
    assert "repetition_penalty" in keywords.unknown("repeat_penalty")
    assert "n=m" in keywords.unknown("best_of")
    assert "xtc=(probability, threshold)" in keywords.unknown("xtc_threshold")


@pytest.mark.parametrize("row", [*OFF.values()], ids=lambda row: row.name)
def test_what_is_missing_is_accepted_where_it_is_off(row):
    for value in (None, *row.neutral):
        assert keywords.read({row.name: value}, None).strategy == Greedy()
    others = [value for value in (True, 7, 0.3, "x", [1], np.ones(2)) if not row.accepts(value)]
    assert len(others) >= 4
    for value in others:
        with pytest.raises(ValueError, match=f"^{row.name}=.* is not available in this") as caught:
            keywords.read({row.name: value}, None)
        assert str(caught.value).endswith(f": {foreign_names.instead(row)}")


@pytest.mark.parametrize("name", foreign_names.IGNORED)
def test_what_changes_nothing_is_accepted(name):
    for value in (None, 3, "x", True):
        assert keywords.read({name: value}, None).strategy == Greedy()


def test_whole_configs_of_transformers(decoder):
    transformers = pytest.importorskip("transformers")
    plain = decoder.generate(["Once", "It was"], max_new_tokens=5)
    for config in (transformers.GenerationConfig(), decoder.model.generation_config):
        given = config.to_dict() | {"max_new_tokens": 5}
        assert decoder.generate(["Once", "It was"], **given).texts == plain.texts
    defaults = transformers.GenerationConfig._get_default_generation_params()
    with pytest.warns(UserWarning, match="do_sample=False decodes greedily"):
        found = decoder.generate(["Once", "It was"], **defaults | {"max_new_tokens": 5})
    assert found.texts == plain.texts


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("Temperature", "temperature"),
        ("topk", "top_k"),
        ("top-p", "top_p"),
        ("max_new_token", "max_new_tokens"),
        ("num_beam", "num_beams"),
        ("repitition_penalty", "repetition_penalty"),
        ("logit_biases", "logit_bias"),
        ("tokeniser", "tokenizer"),
        ("engin", "engine"),
        ("penalties_count_prompts", "penalties_count_prompt"),
    ],
)
def test_misspelt_names(decoder, name, meant):
    with pytest.raises(TypeError, match=f"unknown keyword '{name}'; did you mean '{meant}'\\?"):
        decoder.generate("Once", **{name: 1})


@pytest.mark.parametrize(
    "name", ["colour", "x", "prompt", "beta", "samplingmethod", "warmup", "foo", "eta", "cutoff"]
)
def test_far_names_suggest_nothing(name):
    assert "did you mean" not in keywords.unknown(name)
    assert f"unknown keyword {name!r}" in keywords.unknown(name)


def test_suggestions_are_near():
    for name in {*VLLM, *LLAMA_CPP, *OPENAI, *of_transformers()} - TAKEN:
        assert "did you mean" not in keywords.unknown(name), name


@pytest.mark.parametrize(
    "name",
    [
        *("model", "tokenizer", "engine", "dtype", "kv_cache_dtype", "device", "revision"),
        "trust_remote_code",
    ],
)
def test_a_decoder_has_its_model(decoder, name):
    for method in (decoder.generate, decoder.stream, decoder.next_token):
        with pytest.raises(TypeError, match=rf"unknown keyword '{name}': a decoder has its model"):
            method("Once", **{name: "demo"})


@pytest.mark.parametrize("name", ["max_new_tokens", "n", "stop", "batch_size", "trace", "progress"])
def test_next_token_has_no_run(decoder, name):
    with pytest.raises(TypeError, match=f"next_token\\(\\) draws one token and has no {name}"):
        decoder.next_token("Once", **{name: 1})


# Forms that transformers' names take.


def test_sequence_bias_in_both_forms(decoder):
    forms = [
        {(5,): -math.inf, (6, 7): 2.5},
        [[[5], -math.inf], [[6, 7], 2.5]],
        [((5,), -math.inf), ([6, 7], 2.5)],
        ([[5], -math.inf], [np.array([6, 7]), np.float32(2.5)]),
    ]
    expected = Sample(temperature=0.0, logit_bias=forms[0])
    for form in forms:
        assert keywords.read({"sequence_bias": form}, None).strategy == expected
        assert keywords.read({"logit_bias": form}, None).strategy == expected
    found = {decoder.generate("Once", sequence_bias=form).texts[0] for form in forms}
    assert len(found) == 1


def test_bad_values_are_refused_under_the_name_that_was_given():
    for spelling, value in (("bad_words_ids", ["king"]), ("sequence_bias", {"king": 1.0})):
        with pytest.raises(TypeError, match=f"^{spelling} must be "):
            keywords.read({spelling: value}, None)
    with pytest.raises(ValueError, match=r"^bad_words_ids\[0\] is empty"):
        keywords.read({"bad_words_ids": [[]]}, None)
    with pytest.raises(ValueError, match=r"^sequence_bias of \[3\] is inf"):
        keywords.read({"sequence_bias": {3: math.inf}, "num_beams": 2}, None)


def test_token_ids_of_texts_are_explained():
    for keyword, value in (
        ("bad_words", ["king"]),
        ("bad_words", "king"),
        ("allowed", ["king"]),
        ("logit_bias", {"king": 1.0}),
        ("logit_bias", {"50256": -100}),
        ("dry", {"multiplier": 1.0, "sequence_breakers": ["\n"]}),
    ):
        with pytest.raises(
            TypeError, match=rf"^{keyword}.*got .*; a decoder's tokens\(text\)\.ids"
        ):
            Sample(**{keyword: value})
    with pytest.raises(
        TypeError, match=r"allowed must be .* token ids, got <function.*; a function"
    ):
        Sample(allowed=lambda prompt, ids: [1])


# A seed without draws.


def warned(call, **arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call("Once", max_new_tokens=1, **arguments)
    return [w for w in caught if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize("more", [{}, {"repetition_penalty": 1.1}, {"top_k": 0}])
def test_a_seed_does_nothing_to_greedy_decoding(decoder, more):
    calls = (
        decoder.generate,
        decoder.stream,
        lambda *a, **k: fastdecode.generate(*a, model=decoder, **k),
    )
    for call in calls:
        (warning,) = warned(call, seed=3, **more)
        assert str(warning.message).startswith("seed=3 does nothing to greedy decoding; add do_sam")
        assert warning.filename == __file__


@pytest.mark.parametrize(
    "more",
    [
        {"do_sample": False},
        {"do_sample": True},
        {"temperature": 0},
        {"temperature": 0.5},
        {"n": 2},
        {"strategy": Greedy()},
        {"strategy": Sample()},
        {"num_beams": 2},
    ],
)
def test_a_seed_that_is_meant_so(decoder, more):
    assert not warned(decoder.generate, seed=3, **more)
    assert not warned(decoder.generate, **more)


def test_several_samples_may_be_counted_by_numpy(decoder):
    found = decoder.generate("Once", n=np.int64(3), seed=1, max_new_tokens=4)
    assert found == decoder.generate("Once", n=3, seed=1, max_new_tokens=4)
    assert len(set(found.texts)) > 1


def test_the_model_and_the_tokenizer_belong_to_the_decoder(decoder):
    """transformers needs `tokenizer=` beside its stop strings."""
    for name in ("model", "tokenizer"):
        with pytest.raises(TypeError, match=f"has its model and its tokenizer; leave {name} out"):
            decoder.generate("Once", stop_strings="x", **{name: decoder.tokenizer})
