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
# A language model does one thing: it reads a text and says, for every token that it knows, how
# likely that token is to come next. Everything else on this page (writing a story, ranking
# sentences, sorting reviews, spotting the odd line in a log) is built from that one answer. We
# build each step by hand first, and then look at the one call that does it.
#
# The page runs on the tiny model that comes with the package, without a network. To run it on
# GPT-2, set `MODEL` to `"openai-community/gpt2"`, or the environment variable `FASTDECODE_MODEL`.

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
# The model does not read letters. A tokenizer cuts the text into pieces from a fixed list and
# hands over their numbers. Frequent words are one piece, rare ones several. `␣` stands for a space,
# which belongs to the word behind it.

# %%
decoder.tokens("See you later, alligator.")

# %% [markdown]
# The list itself, the vocabulary, can be looked into like any sequence.

# %%
decoder.vocabulary[1000:1006]

# %% [markdown]
# ## Logits
#
# Let us ask the model. In go the numbers of a text, out comes one row for each of them: a score for
# every token of the vocabulary, as the model's opinion on what follows *that* token. Only the last
# row is about the future; the others are about tokens that we already know (and will be useful when
# we score texts).

# %%
ids = decoder.tokenizer([PROMPT])["input_ids"][0]
logits = next(iter(decoder.engine.all_logits([ids])))
print(ids, "->", logits.shape)

# %% [markdown]
# These scores are called logits. They are plain numbers of any size. To read them as
# probabilities, take the exponential of each and divide by the sum of them all, the **softmax**:
#
# > p*ᵢ* = exp(l*ᵢ*) / Σ*ⱼ* exp(l*ⱼ*)

# %% tags=["exercise"]
row = np.asarray(logits[-1], dtype=np.float64)
probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()  # answer
print(f"sum {probabilities.sum():.6f}, largest {probabilities.max():.6f}")

# %% [markdown]
# (Taking off the largest logit first changes nothing in the result and keeps the exponentials small
# enough for a computer.) The package has this too, as logarithms:

# %%
assert np.allclose(np.log(probabilities), core.log_softmax(logits)[-1])

# %% [markdown]
# ## What comes next
#
# Sorted by probability, the top of the list is the model's prediction. By hand:

# %% tags=["exercise"]
best = np.argsort(-probabilities, kind="stable")[:10]  # answer
for i in best:
    print(f"{probabilities[i]:.4f} {decoder.tokenizer.decode([int(i)])!r}")

# %% [markdown]
# And as one call:

# %%
decoder.next_token(PROMPT)

# %% [markdown]
# ## Always the likeliest: greedy decoding
#
# To write a text, choose a token, put it behind the text, and ask again. Choosing the likeliest
# every time is called greedy decoding. Here is the whole loop:


# %% tags=["exercise"]
def next_row(ids):
    """The logits of the token behind `ids`."""
    return next(iter(decoder.engine.all_logits([ids])))[-1]


text = list(ids)
for _ in range(20):
    token = int(np.argmax(next_row(text)))  # answer
    text.append(token)
print(decoder.tokenizer.decode(text))

# %% [markdown]
# The loop reads the whole text anew at every step. `generate` keeps what it has read (the "KV
# cache"), and gives the same tokens:

# %%
greedy = decoder.generate(PROMPT, max_new_tokens=20)
assert greedy[0].token_ids == text[len(ids) :][: len(greedy[0].token_ids)]
greedy[0].text

# %% [markdown]
# Greedy text is safe, and soon repeats itself: the likeliest continuation of a phrase that has
# just been said is often the same phrase.
#
# ## A raffle: sampling
#
# Instead of taking the likeliest token, draw one: each token gets as many tickets as its
# probability says, and one ticket is pulled. This is how a computer does it: line the tokens up,
# add up their probabilities as you go (the *cumulative* column), take a random number between 0 and
# 1, and see whose stretch it falls into.

# %% tags=["exercise"]
number = core.uniform(seed=10, position=len(ids))
cumulative = np.cumsum(probabilities)  # answer
winner = int(np.searchsorted(cumulative, number, side="right"))  # answer
print(f"{number:.4f} falls on {decoder.tokenizer.decode([winner])!r}")

# %% [markdown]
# `draw` shows the same raffle. Inside, the package counts whole tickets rather than fractions, so
# that the same seed gives the same winner on every computer.

# %%
raffle = decoder.next_token(PROMPT).draw(seed=10)
assert raffle.winner.id == winner
raffle

# %% [markdown]
# Draw often enough, and each token comes as often as its probability says.

# %%
decoder.next_token(PROMPT).sample(200, seed=10)

# %% [markdown]
# Now the loop again, with a draw in place of the maximum. The draw depends on the seed and on the
# position in the text, so every step gets a ticket of its own, and the whole text can be had again.

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
# Most tokens are nonsense at any given place. Each is very unlikely, but there are thousands of
# them, and together they win more often than one would like. So the raffle is trimmed first:
#
# - **temperature** below 1 makes likely tokens likelier (divide the logits by it);
# - **top-k** keeps the k likeliest tokens;
# - **top-p** keeps the smallest set of likeliest tokens whose probabilities reach p.
#
# The table shows both sides: the model's probabilities, and what is left of them.

# %%
decoder.next_token(PROMPT, temperature=0.8, top_p=0.5)

# %% [markdown]
# ## Several texts
#
# One prompt, several draws: sample 0, 1, 2 of the same seed. Each can be had again by itself.

# %%
several = decoder.generate(PROMPT, top_p=0.9, seed=10, n=3, max_new_tokens=25)
several

# %% [markdown]
# With `trace=True`, nothing about a text stays hidden. The colour says how surprising each token
# was to the model; point at a token to see what else could have come.

# %%
traced = decoder.generate(PROMPT, top_p=0.9, seed=10, max_new_tokens=25, trace=True)
traced

# %%
print(traced[0].explain())

# %% [markdown]
# The *surprisal* of a token is minus the logarithm of its probability. The *entropy* before it is
# the surprisal to be expected: high where many continuations are possible, low inside a word or a
# fixed phrase.

# %%
ax = traced[0].plot()

# %% [markdown]
# ## How likely is a sentence?
#
# The probability of a whole sentence is the product of the probabilities of its tokens, each given
# those before it. Products of small numbers vanish, so we add logarithms. A special token in front
# gives the first word something to follow, and one behind says that the sentence ends there.


# %% tags=["exercise"]
def sequence_log_prob(sentence):
    """ln of the probability of the sentence, between a beginning and an end."""
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
# `compare` puts the sentences under each other and frames the tokens that make the difference.

# %%
decoder.compare(SENTENCES)

# %% [markdown]
# What `generate` notes while it writes is what `score` finds when it reads:

# %%
noted = decoder.generate(PROMPT, seed=10, top_p=0.9, logprobs=0)
read = decoder.score(noted)
assert np.allclose(noted[0].logprobs, read[0].token_logprobs, atol=1e-5)
f"{sum(noted[0].logprobs):.4f} = {read[0].logprob:.4f}"

# %% [markdown]
# ## Looking ahead: beam search
#
# The likeliest sentence need not begin with the likeliest word. Beam search keeps the few likeliest
# beginnings (the *beams*) at every step, extends each with every token, and keeps the few likeliest
# of all these. In the end it has a text that is usually likelier than the greedy one. With
# `trace=True` it keeps the tree of what it has tried:

# %%
beams = decoder.generate(PROMPT, num_beams=3, max_new_tokens=5, trace=True)
beams.tree

# %%
longer = decoder.generate(PROMPT, num_beams=4, max_new_tokens=20)
decoder.compare([PROMPT + greedy[0].text, PROMPT + longer[0].text], eos=False)

# %% [markdown]
# Likely is not the same as good: like greedy text, the result is often bland. Beams suit tasks with
# a right answer, such as translation, better than stories.
#
# ## Sorting texts into classes
#
# A model that can say how likely a text is *behind a prompt* can sort texts without having been
# trained for it. Write a prompt for each class and see behind which of them the text is likeliest.
# Bayes' rule turns this round: with *y* the class, *x* the text, and the sum over all classes *y′*,
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
# What a model finds unlikely may be an error, or news. Rank texts by the mean log-probability of
# their tokens (the mean, so that a text is not odd for being long).

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
# Swap the model, change a seed, ask for `trace=True` where something looks odd. Every call on this
# page takes whole lists of texts and runs them in batches; the guide shows how.
