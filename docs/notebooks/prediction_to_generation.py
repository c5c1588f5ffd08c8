# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From prediction to generation
#
# A language model does one thing: it reads a text and estimates, for every token in its vocabulary,
# how likely that token is to come next. Everything else on this page (writing a story, ranking
# sentences, sorting reviews, spotting the odd line in a log) is built from that one answer. We
# build each step by hand first, and then look at the one call that does the same.
#
# The page runs offline, on the tiny model that comes with the package. To run it on GPT-2, set
# `MODEL`, or the environment variable `FASTDECODE_MODEL`, to `"openai-community/gpt2"`.

# %%
import os

import fastdecode
import numpy as np
from fastdecode import core

MODEL = os.environ.get("FASTDECODE_MODEL", "demo")
PROMPT = "Alice was very" if MODEL == "demo" else "See you"

decoder = fastdecode.Decoder.from_pretrained(MODEL)
decoder

# %% [markdown]
# ## Tokens
#
# The model does not read letters. A tokenizer splits the text into pieces from a fixed list, called
# **tokens**, and passes their numbers (ids) to the model. A frequent word is a single token, a rare
# one is several. `␣` stands for a space, which belongs to the word that follows it.

# %%
decoder.tokens("See you later, alligator.")

# %% [markdown]
# The list of all tokens is the vocabulary. It can be indexed and sliced like any sequence.

# %%
decoder.vocabulary[1000:1006]

# %% [markdown]
# ## Logits
#
# Now we run the model. Its input is the token ids of a text. Its output has one row for each of
# them: a score for every token of the vocabulary, which says how well that token would follow at
# this place. Only the last row predicts something new; the other rows predict tokens that we
# already know (and will be useful when we score texts).

# %%
ids = decoder.tokenizer([PROMPT])["input_ids"][0]
logits = next(iter(decoder.engine.all_logits([ids])))
print(ids, "->", logits.shape)

# %% [markdown]
# These scores are called **logits**. They can be any real numbers. To turn them into probabilities,
# take the exponential of each and divide by the sum of all exponentials. This is the **softmax**:
#
# > p*ᵢ* = exp(l*ᵢ*) / Σ*ⱼ* exp(l*ⱼ*)

# %% tags=["exercise"]
row = np.asarray(logits[-1], dtype=np.float64)
probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()  # answer
print(f"sum {probabilities.sum():.6f}, largest {probabilities.max():.6f}")

# %% [markdown]
# (Subtracting the largest logit first does not change the result, and keeps the exponentials from
# overflowing.) The package computes the same as logarithms:

# %%
assert np.allclose(np.log(probabilities), core.log_softmax(logits)[-1])

# %% [markdown]
# ## What comes next
#
# Sorted by probability, the tokens at the top of this next-token table are the model's prediction.
# By hand:

# %% tags=["exercise"]
best = np.argsort(-probabilities, kind="stable")[:10]  # answer
for i in best:
    print(f"{probabilities[i]:.4f} {decoder.tokenizer.decode([int(i)])!r}")

# %% [markdown]
# The same with one call:

# %%
decoder.next_token(PROMPT)

# %% [markdown]
# ## Always the likeliest: greedy decoding
#
# To write a text, choose a token, append it to the text, and run the model again. Choosing the
# likeliest token every time is called **greedy decoding**. Here is the whole loop:


# %% tags=["exercise"]
def next_row(ids):
    """The logits of the token that follows `ids`."""
    return next(iter(decoder.engine.all_logits([ids])))[-1]


text = list(ids)
for _ in range(20):
    token = int(np.argmax(next_row(text)))  # answer
    text.append(token)
print(decoder.tokenizer.decode(text))

# %% [markdown]
# This loop runs the model on the whole text at every step. `generate` keeps the intermediate
# results of earlier tokens (the "KV cache"), and gives the same tokens:

# %%
greedy = decoder.generate(PROMPT, max_new_tokens=20)
assert greedy[0].token_ids == text[len(ids) :][: len(greedy[0].token_ids)]
greedy[0].text

# %% [markdown]
# Greedy text is safe, but it tends to repeat itself: the likeliest continuation of a phrase that
# has just occurred is often the same phrase.
#
# ## A raffle: sampling
#
# Instead of taking the likeliest token, draw one at random: each token gets tickets in proportion
# to its probability, and one ticket is drawn. A computer does it like this: put the tokens in a
# row, add up their probabilities one by one (the *cumulative* column), take a random number between
# 0 and 1, and see into which token's interval it falls.

# %% tags=["exercise"]
number = core.uniform(seed=10, position=len(ids))
cumulative = np.cumsum(probabilities)  # answer
winner = int(np.searchsorted(cumulative, number, side="right"))  # answer
print(f"{number:.4f} falls on {decoder.tokenizer.decode([winner])!r}")

# %% [markdown]
# `draw` shows the same raffle. Internally, the package counts whole tickets instead of fractions,
# so the same seed gives the same winner on every computer.

# %%
raffle = decoder.next_token(PROMPT).draw(seed=10)
assert raffle.winner.id == winner
raffle

# %% [markdown]
# If you draw often enough, each token is drawn about as often as its probability predicts.

# %%
decoder.next_token(PROMPT).sample(200, seed=10)

# %% [markdown]
# Now the loop again, with a draw instead of the maximum: the sampling loop. The draw depends on the
# seed and on the position in the text, so every step draws a different ticket, and running the loop
# again with the same seed reproduces the whole text.

# %% tags=["exercise"]
text = list(ids)
for _ in range(20):
    draws = core.sample(next_row(text), seed=10, positions=[len(text)])  # answer
    token = int(draws.tokens[0])
    text.append(token)
print(decoder.tokenizer.decode(text))

# %%
sampled = decoder.generate(PROMPT, do_sample=True, seed=10, max_new_tokens=20)
assert sampled[0].token_ids == text[len(ids) :][: len(sampled[0].token_ids)]
sampled[0].text

# %% [markdown]
# ## Taming the raffle
#
# Most tokens make no sense at any given place. Each of them is very unlikely, but there are
# thousands, and together they win more often than one would like. So the distribution is adjusted
# first:
#
# - **temperature** divides the logits; a value below 1 makes likely tokens likelier;
# - **top-k** keeps the k likeliest tokens;
# - **top-p** keeps the smallest set of likeliest tokens whose probabilities reach p.
#
# The table shows the model's probabilities, and the distribution that remains after these steps.

# %%
decoder.next_token(PROMPT, temperature=0.8, top_p=0.5)

# %% [markdown]
# ## Several texts
#
# With `n=3`, one prompt gives several sequences: samples 0, 1 and 2 of the same seed. Each of them
# can be reproduced without the others.

# %%
several = decoder.generate(PROMPT, top_p=0.9, seed=10, n=3, max_new_tokens=25)
several

# %% [markdown]
# With `trace=True`, the result keeps every step. The colour shows how surprising each token was to
# the model; hover over a token to see the alternatives.

# %%
traced = decoder.generate(PROMPT, top_p=0.9, seed=10, max_new_tokens=25, trace=True)
traced

# %%
print(traced[0].explain())

# %% [markdown]
# The *surprisal* of a token is the negative logarithm of its probability. The *entropy* at a step
# is the expected surprisal of the next token: high where many continuations are possible, low
# inside a word or a fixed phrase.

# %%
ax = traced[0].plot()

# %% [markdown]
# ## How likely is a sentence?
#
# The probability of a whole sentence is the product of the probabilities of its tokens, each given
# those before it. Such a product soon becomes too small to compute with, so we add logarithms
# instead: the **sequence log-probability**. A special token in front gives the first word something
# to follow, and one at the end says that the sentence ends there.


# %% tags=["exercise"]
def sequence_log_prob(sentence):
    """The log-probability of a sentence between a beginning and an end token, in nats."""
    bos, eos = decoder.tokenizer.bos_token_id, decoder.tokenizer.eos_token_id
    whole = [bos, *decoder.tokenizer([sentence])["input_ids"][0], eos]
    rows = core.log_softmax(next(iter(decoder.engine.all_logits([whole[:-1]]))))
    return sum(rows[i, token] for i, token in enumerate(whole[1:]))  # answer


if MODEL == "demo":
    SENTENCES = [f"The king was very {word}." for word in ("glad", "red", "asdf")]
else:
    SENTENCES = [f"See you later, {word}." for word in ("alligator", "crocodile", "asdf")]
for sentence in SENTENCES:
    print(f"{sequence_log_prob(sentence):10.4f}  {sentence}")

# %%
scores = decoder.score(SENTENCES)
assert np.allclose(scores.logprobs, [sequence_log_prob(text) for text in SENTENCES])
scores

# %% [markdown]
# `compare` aligns the sentences and frames the tokens that make the difference.

# %%
decoder.compare(SENTENCES)

# %% [markdown]
# The log-probabilities that `generate` records are the ones that `score` computes for the same
# text:

# %%
noted = decoder.generate(PROMPT, seed=10, top_p=0.9, logprobs=0)
read = decoder.score(noted)
assert np.allclose(noted[0].logprobs, read[0].token_logprobs, atol=1e-5)
f"{sum(noted[0].logprobs):.4f} = {read[0].logprob:.4f}"

# %% [markdown]
# ## Looking ahead: beam search
#
# The likeliest sentence need not begin with the likeliest word. **Beam search** keeps the few
# likeliest beginnings (the *beams*) at every step, extends each with every token, and keeps the few
# likeliest results. The text it finds is usually likelier than the greedy one. With `trace=True` it
# also keeps the tree of all candidates:

# %%
beams = decoder.generate(PROMPT, num_beams=3, max_new_tokens=5, trace=True)
beams.tree

# %%
longer = decoder.generate(PROMPT, num_beams=4, max_new_tokens=20)
decoder.compare([PROMPT + greedy[0].text, PROMPT + longer[0].text], eos=False)

# %% [markdown]
# Likely is not the same as good: like greedy text, the result is often bland. Beam search suits
# tasks with a right answer, such as translation, better than stories.
#
# ## Sorting texts into classes
#
# A generative model can be used as a classifier without having been trained for it, because it can
# say how likely a text is *after a given prompt*. Write a prompt for each class, and see after
# which prompt the text is likeliest. Bayes' rule turns these likelihoods into probabilities of the
# classes. With *y* for the class, *x* for the text, and the sum over all classes *y′*:
#
# > p(*y* | *x*) = p(*x* | *y*) p(*y*) / Σ p(*x* | *y′*) p(*y′*)

# %%
if MODEL == "demo":
    LABELS = {
        "fairy tale": "Once upon a time there was a king, and",
        "sea story": "Captain Ahab stood on the deck of the ship, and",
    }
    TEXTS = [
        "his daughter was the most beautiful in the land.",
        "the whale was seen from the boat.",
    ]
else:
    LABELS = {"positive": "A very positive review:", "negative": "A very negative review:"}
    TEXTS = ["I loved every minute of it.", "What a waste of an evening."]

decoder.classify(TEXTS[0], list(LABELS), prompts=LABELS)

# %% [markdown]
# By hand, with equal priors:

# %% tags=["exercise"]
joint = [
    np.exp(decoder.score(" " + TEXTS[0], context=prompt, eos=False)[0].logprob)
    for prompt in LABELS.values()
]
posterior = np.array(joint) / sum(joint)  # answer
print(dict(zip(LABELS, posterior.round(4).tolist(), strict=True)))

# %%
decoder.classify(TEXTS, list(LABELS), prompts=LABELS)

# %% [markdown]
# ## Finding the odd one out
#
# A text that a model finds unlikely may contain an error, or something new. This is the idea of
# anomaly detection: rank texts by the mean log-probability of their tokens. (The mean, so that long
# texts do not count as unusual merely because they are long.)

# %%
LINES = [
    "The old man went home to his wife.",
    "She looked at him, and said nothing.",
    "The old man 0x7f went null to his home.",
    "They sat down by the fire.",
]
decoder.surprising(LINES)

# %% [markdown]
# ## Where to go from here
#
# Try another model, change a seed, or use `trace=True` wherever something looks odd. The guide
# shows more of what each call can do; `generate` and `score`, for example, take whole lists of
# texts and run them in batches.
