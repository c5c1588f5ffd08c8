"""The types of transformers' keywords that do nothing here; by tools/generate_parameters.py."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = ["IgnoredKeywords", "UnavailableKeywords"]


class IgnoredKeywords(TypedDict, total=False):
    """transformers' keywords that change nothing here, whatever their value."""

    pad_token_id: Any
    bos_token_id: Any
    use_cache: Any
    return_dict_in_generate: Any
    disable_compile: Any
    transformers_version: Any
    _from_model_config: Any


class UnavailableKeywords(TypedDict, total=False):
    """transformers' keywords that are accepted only with a value that switches them off."""

    min_length: Literal[0] | None
    encoder_repetition_penalty: float | None
    encoder_no_repeat_ngram_size: Literal[0] | None
    decoder_start_token_id: None
    suppress_tokens: None
    begin_suppress_tokens: None
    forced_bos_token_id: None
    forced_eos_token_id: None
    exponential_decay_length_penalty: None
    top_h: float | None
    penalty_alpha: Literal[False] | None
    low_memory: Literal[False] | None
    dola_layers: None
    constraints: None
    force_words_ids: None
    guidance_scale: float | None
    negative_prompt_ids: None
    negative_prompt_attention_mask: None
    watermarking_config: None
    token_healing: Literal[False] | None
    renormalize_logits: Literal[False] | None
    remove_invalid_values: Literal[False] | None
    max_time: None
    stopping_criteria: None
    streamer: None
    generation_config: None
    custom_generate: None
    output_scores: Literal[False] | None
    output_logits: Literal[False] | None
    output_attentions: Literal[False] | None
    output_hidden_states: Literal[False] | None
    assistant_model: None
    assistant_tokenizer: None
    speculation_type: None
    assistant_early_exit: None
    assistant_ensemble_weight: None
    prompt_lookup_num_tokens: None
    max_matching_ngram_size: None
    use_mtp: Literal[False] | None
    is_assistant: Literal[False] | None
    num_assistant_tokens: Literal[20] | None
    num_assistant_tokens_schedule: Literal["constant"] | None
    assistant_confidence_threshold: float | None
    assistant_lookbehind: Literal[10] | None
    target_lookbehind: Literal[10] | None
    cache_implementation: Literal["dynamic"] | None
    cache_config: None
    max_cache_len: None
    cache: None
    past_key_values: None
    prefill_chunk_size: None
    compile_config: None
    continuous_batching_config: None
    synced_gpus: Literal[False] | None
    inputs: None
    input_ids: None
    inputs_embeds: None
    attention_mask: None
    position_ids: None
    token_type_ids: None
