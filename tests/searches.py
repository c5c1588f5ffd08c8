"""Beam searches from token ids: ours, transformers', and how they are compared."""

import math

import torch
from fastdecode import Beam
from fastdecode.decoding.beam_search import BeamSearch
from fastdecode.decoding.request import Prompt, Request, Timer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def small_vocabulary_model(kind, seed, vocab=40):
    """A model whose sequences end often and at different lengths."""
    torch.manual_seed(seed)
    shared = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.4}
    if kind == "gpt2":
        config = GPT2Config(n_layer=1, n_head=2, n_embd=16, n_positions=64, **shared)
        model = GPT2LMHeadModel(config)
    else:
        config = LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            **shared,
        )
        model = LlamaForCausalLM(config)
    return model.to(torch.float64).eval()


def search(decoder, prompts, beam, limit, eos, **more):
    """Our loop, from token ids: (tokens, score) of each prompt's sequences."""
    jobs = [Prompt(i, ids, i, limit, "length") for i, ids in enumerate(prompts)]
    request = Request(jobs, 1, beam, 0, 10_000, tuple(eos), (), None, decoder.tokenizer, **more)
    found = [[] for _ in prompts]
    for rows in BeamSearch(decoder.engine, request, beam, Timer(), trace=False):
        for row in rows:
            found[row.prompt.index].append((row.ids, row.score))
    return found


def transformers_search(model, prompts, beam, limit, eos, **more):
    """transformers' beam search: (tokens up to their end, score) of each prompt's sequences."""
    width = max(map(len, prompts))
    output = model.generate(
        torch.tensor([[0] * (width - len(row)) + row for row in prompts]),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts]),
        do_sample=False,
        max_new_tokens=limit,
        num_beams=beam.num_beams,
        num_return_sequences=beam.num_return_sequences,
        length_penalty=beam.length_penalty,
        early_stopping=beam.early_stopping,
        eos_token_id=list(eos) or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
        **more,
    )
    found = []
    for row in output.sequences[:, width:].tolist():
        ends = [i for i, token in enumerate(row) if token in eos]
        found.append(row[: ends[0] + 1] if ends else row)
    scores = output.sequences_scores.tolist()
    count = beam.num_return_sequences
    pairs = list(zip(found, scores, strict=True))
    return [pairs[i * count : (i + 1) * count] for i in range(len(prompts))]


def near(ours, theirs):
    """Whether each sequence is the same and each score within 1e-5, beyond -1 of its size.

    transformers adds up in float32, whose spacing at -64 is 8e-6; the core adds up in float64.
    """
    return len(ours) == len(theirs) and all(
        a == b and math.isclose(x, y, rel_tol=1e-5, abs_tol=1e-5)
        for (a, x), (b, y) in zip(ours, theirs, strict=True)
    )


def tied(ours, theirs):
    """Whether they differ only where scores are within rounding of each other."""
    return len(ours) == len(theirs) and all(
        math.isclose(x, y, rel_tol=1e-6, abs_tol=2e-6)
        for (_, x), (_, y) in zip(ours, theirs, strict=True)
    )


def random_case(rng):
    beams = rng.randint(2, 16)
    beam = Beam(
        beams,
        length_penalty=rng.choice([-0.5, 0.0, 0.4, 1.0, 1.0, 2.0]),
        early_stopping=rng.choice([False, True, "never"]),
        num_return_sequences=rng.randint(1, beams),
    )
    eos = rng.choice([[], [0], [0], [3, 7], [1, 2, 3, 4]])
    prompts = [
        [rng.randrange(1, 40) for _ in range(rng.randint(1, 9))] for _ in range(rng.randint(1, 8))
    ]
    return beam, eos, prompts, rng.randint(1, 12)
