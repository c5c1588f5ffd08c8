"""The keywords of transformers, vLLM, llama.cpp and OpenAI, and how each is treated here.

transformers' keywords work. Those that fastdecode does not have are accepted with a value that
changes nothing, so that a saved generation config can be passed on, and refused otherwise. The
others' keywords work where name and meaning are the same. Where the name differs they are refused
with the name to use: two spellings of one parameter would hide which of them applies.

`keywords.read` looks names up here; docs/coming_from.md and the tests are made of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fastdecode.options.checks import is_one_of
from fastdecode.options.table import BEAM_KEYWORDS, PARAMETERS

SYSTEMS = ("transformers", "vLLM", "llama.cpp", "OpenAI")
_T, _V, _L, _O = SYSTEMS

# It works; it is accepted and changes nothing; it is accepted with a value that switches it off; it
# has another name here; there is nothing like it.
Verdict = Literal["works", "ignored", "off", "renamed", "refused"]


@dataclass(frozen=True, slots=True)
class ForeignName:
    """A keyword of another system.

    Attributes:
        system: whose keyword it is.
        name: the keyword, as it is written in Python.
        verdict: what becomes of it.
        here: what to write instead: Python code, or prose with code in backquotes; None where there
            is nothing.
        note: a clause: how it differs, or why it is refused. Code is in backquotes.
        neutral: the values that switch it off, besides None.
    """

    system: str
    name: str
    verdict: Verdict
    here: str | None = None
    note: str = ""
    neutral: tuple[Any, ...] = ()

    def accepts(self, value: Any) -> bool:
        """Whether a value is one that may be given."""
        if self.verdict == "off":
            return value is None or is_one_of(value, self.neutral)
        return self.verdict in ("works", "ignored")


def _works(system: str, names: str, note: str = "") -> Iterable[ForeignName]:
    return [ForeignName(system, name, "works", None, note) for name in names.split()]


def _ignored(names: str, note: str) -> Iterable[ForeignName]:
    return [ForeignName(_T, name, "ignored", None, note) for name in names.split()]


def _off(
    names: str, note: str, here: str | None = None, neutral: tuple[Any, ...] = ()
) -> Iterable[ForeignName]:
    return [ForeignName(_T, name, "off", here, note, neutral) for name in names.split()]


def _renamed(system: str, names: str, here: str, note: str = "") -> Iterable[ForeignName]:
    return [ForeignName(system, name, "renamed", here, note) for name in names.split()]


def _refused(system: str, names: str, note: str, here: str | None = None) -> Iterable[ForeignName]:
    return [ForeignName(system, name, "refused", here, note) for name in names.split()]


_WINDOW = "the whole prompt and text count, not only the last tokens"
_PROMPT = "the prompt counts as well, unless `penalties_count_prompt=False`"
_NO_PADDING = "prompts of different lengths are batched without padding"
_ENCODER = "only models with an encoder use it"
_FIRST = "no processor applies to the first token only"
_LOOP = "objects of transformers' generation loop are not supported"
_ASSISTED = "assisted decoding, which affects speed only, is not implemented"
_GUIDANCE = "classifier-free guidance is not implemented"
_GRAMMAR = "grammars are not supported"
_PARTS = "the length of parts of a text cannot be limited"
_RESULT = "a generation always has `text` and `token_ids`"
_BEST_OF = "every sample is returned"
_PICK = "`n=m, logprobs=0`, and pick the best"
_VLLM_ONLY = "it is internal to vLLM"
_SERVER = "it is an option of a server"
_LOADING = "it is an option of loading a model"
_CHAT = "prompts are texts, not chats"

_OF_TRANSFORMERS = (
    *_works(_T, " ".join(p.row.transformers or "" for p in PARAMETERS.values())),
    *_works(_T, " ".join(BEAM_KEYWORDS)),
    *_works(_T, "max_new_tokens max_length eos_token_id stop_strings"),
    *_works(_T, "do_sample", "truncations and `n` above 1 sample without it, too"),
    *_works(_T, "num_return_sequences", "`n` is another name for it"),
    *_works(_T, "prefix_allowed_tokens_fn", "in beam searches"),
    *_ignored("pad_token_id", _NO_PADDING),
    *_ignored("bos_token_id", "an empty prompt begins at the tokenizer's BOS token"),
    *_ignored("use_cache", "a KV cache is always used"),
    *_ignored("return_dict_in_generate", "`generate` always returns `Generations`"),
    *_ignored("disable_compile", "nothing is compiled"),
    *_ignored("transformers_version _from_model_config", "saved configurations have them"),
    *_off("min_length", "it counts the prompt", "min_new_tokens", (0,)),
    *_off("encoder_repetition_penalty", _ENCODER, "repetition_penalty", (1.0,)),
    *_off("encoder_no_repeat_ngram_size", _ENCODER, "no_repeat_ngram_size", (0,)),
    *_off("decoder_start_token_id", _ENCODER),
    *_off("suppress_tokens", "a bias of -inf bans", "logit_bias={token_id: -math.inf}"),
    *_off("begin_suppress_tokens forced_bos_token_id", _FIRST),
    *_off("forced_eos_token_id", "no processor applies to the last token only"),
    *_off("exponential_decay_length_penalty", "no processor makes the end likelier with time"),
    *_off("top_h", "top-h is not implemented", "`min_p` or `eta_cutoff`", (1.0,)),
    *_off("penalty_alpha low_memory", "contrastive search is not implemented", None, (False,)),
    *_off("dola_layers", "DoLa decoding is not implemented"),
    *_off(
        "constraints force_words_ids",
        "searches cannot be made to contain words",
        "Beam(num_beams, allowed=...)",
    ),
    *_off("guidance_scale", _GUIDANCE, None, (1.0,)),
    *_off("negative_prompt_ids negative_prompt_attention_mask", _GUIDANCE),
    *_off("watermarking_config", "watermarks are not implemented"),
    *_off("token_healing", "the end of a prompt is never retokenized", None, (False,)),
    *_off("renormalize_logits", "every distribution is normalised", None, (False,)),
    *_off("remove_invalid_values", "logits that are NaN or +inf are an error", None, (False,)),
    *_off("max_time", "generation has no time limit", "`stream(...)` and leave its loop"),
    *_off("stopping_criteria", _LOOP, "`stop`, or `stream(...)` and leave its loop"),
    *_off("streamer", _LOOP, "`stream(...)`, which is an iterator"),
    *_off("logits_processor", "processors of the caller are not supported"),
    *_off("generation_config", "its entries are keywords", "**generation_config.to_dict()"),
    *_works(_T, "trust_remote_code", "it belongs to the model, and is an option of loading it"),
    *_off("custom_generate", "decoding loops of a model's repository are never run"),
    *_off("output_scores output_logits", "they are part of a trace", "trace=True", (False,)),
    *_off("output_attentions output_hidden_states", "they are not returned", None, (False,)),
    *_off("assistant_model assistant_tokenizer speculation_type", _ASSISTED),
    *_off("assistant_early_exit assistant_ensemble_weight", _ASSISTED),
    *_off("prompt_lookup_num_tokens max_matching_ngram_size", _ASSISTED),
    *_off("use_mtp is_assistant", _ASSISTED, None, (False,)),
    *_off("num_assistant_tokens", _ASSISTED, None, (20,)),
    *_off("num_assistant_tokens_schedule", _ASSISTED, None, ("constant",)),
    *_off("assistant_confidence_threshold", _ASSISTED, None, (0.4,)),
    *_off("assistant_lookbehind target_lookbehind", _ASSISTED, None, (10,)),
    *_off("cache_implementation", "the engine chooses its KV cache", None, ("dynamic",)),
    *_off("cache_config max_cache_len cache past_key_values", "the engine manages its KV cache"),
    *_off("prefill_chunk_size compile_config", "it affects speed only"),
    *_off("continuous_batching_config", "sequences always join and leave batches at any time"),
    *_off("synced_gpus", "a model runs on one device", None, (False,)),
    *_off("inputs input_ids", "prompts, which may be token ids, come first", "generate(ids, ...)"),
    *_off("inputs_embeds", "prompts are texts or token ids"),
    *_off("attention_mask position_ids token_type_ids", _NO_PADDING),
)

_OF_VLLM = (
    *_works(_V, "n repetition_penalty temperature top_p min_p seed stop logit_bias length_penalty"),
    *_works(_V, "presence_penalty frequency_penalty", _PROMPT),
    *_works(_V, "top_k", "None and 0 are off; -1 is an error"),
    *_works(_V, "logprobs", "-1 is an error; give the size of the vocabulary"),
    *_works(_V, "bad_words", "token ids, not texts"),
    *_works(_V, "stop_token_ids skip_special_tokens"),
    *_renamed(_V, "max_tokens", "max_new_tokens"),
    *_renamed(_V, "min_tokens", "min_new_tokens"),
    *_renamed(_V, "allowed_token_ids", "allowed"),
    *_renamed(_V, "ignore_eos", "eos_token_id=[]"),
    *_renamed(_V, "beam_width use_beam_search", "num_beams"),
    *_renamed(_V, "sampling_params", "strategy=Sample(...)"),
    *_renamed(_V, "use_tqdm", "progress"),
    *_refused(_V, "best_of", _BEST_OF, _PICK),
    *_refused(
        _V,
        "prompt_logprobs prompt_logprob_start prompt_logprob_token_ids",
        "prompts are scored by another function",
        "score",
    ),
    *_refused(_V, "logprob_token_ids", "tokens cannot be selected", "logprobs=m"),
    *_refused(_V, "structured_outputs guided_decoding", _GRAMMAR, "Beam(num_beams, allowed=...)"),
    *_refused(_V, "logits_processors", "processors of the caller are not supported"),
    *_refused(_V, "detokenize spaces_between_special_tokens", _RESULT),
    *_refused(_V, "flat_logprobs output_kind", _RESULT, "`generate` or `stream`"),
    *_refused(_V, "stream_interval", "`stream` yields every token"),
    *_refused(_V, "include_stop_str_in_output", "a text ends before its stop string"),
    *_refused(_V, "truncate_prompt_tokens", "a prompt that does not fit the context is an error"),
    *_refused(_V, "thinking_token_budget", _PARTS, "max_new_tokens"),
    *_refused(
        _V, "repetition_detection", "repetition ends no text", "`dry` or `no_repeat_ngram_size`"
    ),
    *_refused(_V, "extra_args skip_clone skip_reading_prefix_cache priority", _VLLM_ONLY),
    *_refused(_V, "output_text_buffer_length routed_experts_prompt_start", _VLLM_ONLY),
    *_refused(_V, "trace_decode_token_ids", "given tokens are scored, not generated", "score"),
    *_refused(_V, "lora_request", _LOADING, "Decoder(model, tokenizer)"),
)

_OF_LLAMA_CPP = (
    *_works(_L, "temperature top_p min_p typical_p logit_bias stop logprobs"),
    *_works(_L, "top_k", "None and 0 are off; negative values are an error"),
    *_works(_L, "top_n_sigma", "None is off; 0 keeps only the largest logit"),
    *_works(_L, "seed", "None takes a fresh seed; -1 is an error"),
    *_works(_L, "presence_penalty frequency_penalty", _WINDOW),
    *_works(_L, "mirostat", "`(tau, eta)`, for version 2"),
    *_works(_L, "n", "the number of samples, not of tokens"),
    *_works(_L, "batch_size", "the number of texts at a time, not of tokens"),
    *_renamed(_L, "n_predict predict max_tokens", "max_new_tokens"),
    *_renamed(_L, "temp", "temperature"),
    *_renamed(_L, "typ_p typical", "typical_p"),
    *_renamed(_L, "top_nsigma", "top_n_sigma"),
    *_renamed(_L, "repeat_penalty penalty_repeat", "repetition_penalty", _WINDOW),
    *_renamed(_L, "penalty_freq", "frequency_penalty", _WINDOW),
    *_renamed(_L, "penalty_present", "presence_penalty", _WINDOW),
    *_renamed(_L, "dry_multiplier", "dry={'multiplier': ...}"),
    *_renamed(_L, "dry_base", "dry={'multiplier': ..., 'base': ...}"),
    *_renamed(_L, "dry_allowed_length", "dry={'multiplier': ..., 'allowed_length': ...}"),
    *_renamed(_L, "dry_penalty_last_n", "dry={'multiplier': ..., 'range': ...}"),
    *_renamed(
        _L,
        "dry_sequence_breaker dry_sequence_breakers",
        "dry={'multiplier': ..., 'sequence_breakers': ...}",
        "they are token ids, and none by default",
    ),
    *_renamed(_L, "xtc_probability xtc_threshold", "xtc=(probability, threshold)"),
    *_renamed(_L, "mirostat_tau mirostat_ent", "mirostat=(tau, eta)"),
    *_renamed(_L, "mirostat_eta mirostat_lr mirostat_mode", "mirostat=(tau, eta)"),
    *_renamed(
        _L,
        "dynatemp_range dynatemp_exponent dynatemp_exp",
        "dynamic_temperature=(low, high, exponent)",
        "low and high are the temperature minus and plus the range",
    ),
    *_renamed(_L, "ignore_eos", "eos_token_id=[]"),
    *_renamed(_L, "n_probs", "logprobs"),
    *_renamed(_L, "reverse_prompt", "stop"),
    *_renamed(_L, "stream", "the function `stream`"),
    *_refused(_L, "repeat_last_n penalty_last_n", _WINDOW),
    *_refused(_L, "penalize_nl", "penalties apply to all tokens"),
    *_refused(_L, "samplers sampler_seq sampling_seq", "the order of the truncations is fixed"),
    *_refused(_L, "min_keep", "a truncation may leave a single token"),
    *_refused(_L, "tfs tfs_z", "tail-free sampling is not implemented", "`min_p` or `typical_p`"),
    *_refused(_L, "adaptive_target adaptive_decay", "adaptive-p is not implemented", "mirostat"),
    *_refused(_L, "grammar grammar_file grammar_lazy grammar_triggers", _GRAMMAR),
    *_refused(_L, "json_schema json_schema_file", _GRAMMAR),
    *_refused(_L, "reasoning_budget", _PARTS, "max_new_tokens"),
    *_refused(_L, "n_keep keep n_discard", "a text ends where the context is full"),
    *_refused(_L, "n_prev n_indent t_max_predict_ms post_sampling_probs", _SERVER),
    *_refused(_L, "id_slot cache_prompt return_tokens response_fields", _SERVER),
    *_refused(_L, "timings_per_token return_progress no_perf backend_sampling", _SERVER),
    *_refused(_L, "ctx_size n_ctx n_gpu_layers gpu_layers n_batch ubatch_size", _LOADING),
    *_refused(_L, "threads n_threads", _LOADING, "the variable `FASTDECODE_THREADS`"),
    *_refused(_L, "lora control_vector", _LOADING, "Decoder(model, tokenizer)"),
    *_refused(_L, "messages", _CHAT),
    *_refused(_L, "reset", "every call begins at its prompt"),
)

_OF_OPENAI = (
    *_works(_O, "n temperature top_p seed stop"),
    *_works(_O, "presence_penalty frequency_penalty", _PROMPT),
    *_works(_O, "logit_bias", "its keys are integers, not strings"),
    *_works(_O, "logprobs", "an integer, not True"),
    *_renamed(_O, "max_tokens max_completion_tokens max_output_tokens", "max_new_tokens"),
    *_renamed(_O, "top_logprobs", "logprobs"),
    *_renamed(_O, "stream", "the function `stream`"),
    *_refused(_O, "best_of", _BEST_OF, _PICK),
    *_refused(_O, "echo", "a generation has its `prompt`"),
    *_refused(_O, "suffix", "texts are continued only at their end"),
    *_refused(_O, "response_format", _GRAMMAR, "Beam(num_beams, allowed=...)"),
    *_refused(_O, "messages tools tool_choice parallel_tool_calls functions function_call", _CHAT),
    *_refused(_O, "reasoning_effort verbosity modalities prediction", _CHAT),
    *_refused(_O, "stream_options user store metadata service_tier", _SERVER),
)

ROWS: tuple[ForeignName, ...] = (*_OF_TRANSFORMERS, *_OF_VLLM, *_OF_LLAMA_CPP, *_OF_OPENAI)

# transformers' keywords that are accepted with a value that switches them off; `generate` has
# logits_processor as an argument of its own.
OFF: dict[str, ForeignName] = {
    row.name: row for row in ROWS if row.verdict == "off" and row.name != "logits_processor"
}

# transformers' keywords that change nothing.
IGNORED = tuple(row.name for row in ROWS if row.verdict == "ignored")


def refusal(name: str) -> str | None:
    """Why a keyword is refused that another system has; None where none has it.

    Args:
        name: a keyword that fastdecode does not take.
    """
    rows = [row for row in ROWS if row.name == name and row.verdict in ("renamed", "refused")]
    if not rows:
        return None
    row = rows[0]
    *others, last = [f"{row.system}'s" for row in rows]
    whose = f"{', '.join(others)} and {last}" if others else last
    if row.verdict == "renamed":
        note = f"; {row.note}" if row.note else ""
        return _plain(f"{whose} {name} is {row.here} here{note}")
    return f"{whose} {name} is not available: {instead(row)}"


def instead(row: ForeignName) -> str:
    """Why a keyword is refused, and what to use."""
    return _plain(row.note + (f"; use {row.here}" if row.here else ""))


def _plain(text: str) -> str:
    """A text for a message, without the marks of code."""
    return text.replace("`", "")
