"""Every causal language model of transformers is decoded as the table in the docs says."""

from importlib.metadata import version

import causal_models
import pytest
import sweep

EXPECTED = sweep.expected()
SAME_VERSION = version("transformers").startswith(sweep.VERSION + ".")
# One of each kind: attention, windows, latent attention, experts, states, positions of each sort,
# each mode, and refusals.
QUICK = {
    *("llama", "gpt2", "gemma2", "gemma4_text", "gpt_oss", "mixtral", "deepseek_v3", "bloom"),
    *("mamba", "falcon_h1", "qwen3_next", "recurrent_gemma", "rwkv", "bart", "roberta"),
    *("openai-gpt", "git", "xlnet", "prophetnet", "musicgen"),
}


def cases():
    for model_type in sorted(causal_models.architectures()):
        marks = [] if model_type in QUICK else [pytest.mark.slow]
        yield pytest.param(model_type, marks=marks)


@pytest.mark.parametrize("model_type", list(cases()))
@pytest.mark.filterwarnings("ignore")
def test_the_table_holds(model_type):
    found, expected = sweep.compare(model_type), EXPECTED.get(model_type)
    assert found.outcome != sweep.DIFFERS, found.note
    if expected is None:
        pytest.skip(f"new in transformers {version('transformers')}: {found.outcome}, {found.note}")
    if expected.outcome == sweep.NOT_BUILT != found.outcome:
        pytest.skip(f"can be built here ({expected.note}): {found.outcome}")
    if SAME_VERSION:
        assert (found.outcome, found.mode) == (expected.outcome, expected.mode), found.note
    elif found.outcome != expected.outcome:
        pytest.skip(f"transformers {version('transformers')}: {found.outcome}, {found.note}")


@pytest.mark.skipif(not SAME_VERSION, reason=f"the table is of transformers {sweep.VERSION}")
def test_the_table_has_every_model_type():
    assert set(EXPECTED) == set(causal_models.architectures())
    for model_type, outcome in EXPECTED.items():
        assert outcome.architecture == causal_models.architectures()[model_type]
        assert outcome.outcome != sweep.DIFFERS
        assert bool(outcome.mode) == (outcome.outcome in (sweep.EQUAL, sweep.SLOWER))


@pytest.mark.parametrize("model_type", ["bart", "recurrent_gemma"])
@pytest.mark.filterwarnings("ignore")
def test_the_comparison_sees_what_an_engine_gets_wrong(model_type):
    """Without a probe, positions by columns and states on modules go unnoticed."""
    found = sweep.compare(model_type, probe=False)
    assert found.outcome == sweep.DIFFERS
