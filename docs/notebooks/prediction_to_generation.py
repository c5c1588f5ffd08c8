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
# sentences, sorting texts into classes, spotting the odd line in a log) is built from that one
# answer. We build each step by hand first, and then look at the one call that does the same.
#
# The page runs offline, on the tiny model that comes with the package. It has read six old books
# and nothing else: the fairy tales of Grimm and Andersen, *Alice in Wonderland*, *The Wizard of
# Oz*, *Pride and Prejudice* and *Sherlock Holmes*. To run the page on GPT-2, set `MODEL`, or the
# environment variable `FASTDECODE_MODEL`, to `"openai-community/gpt2"`.

# %% [markdown] tags=["page"]
# Two notebooks to work with:
#
# - [this page as a notebook](path:../_made/prediction_to_generation.ipynb);
# - [the students' notebook](path:../_made/prediction_to_generation_students.ipynb), with blanks to
#   fill in, hints, solutions and checks.

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
# them: a score for every token of the vocabulary, which says how well that token would come next.
# Only the last row predicts something new; the other rows predict tokens that we already know (and
# will be useful when we score texts).

# %%
ids = decoder.encode(PROMPT)
logits = decoder.logits(PROMPT)
print(ids, "->", logits.shape)

# %% [markdown]
# These scores are called **logits**. They can be any real numbers. To turn them into probabilities,
# take the exponential of each and divide by the sum of all exponentials. This is the **softmax**:
#
# $$p_i = \frac{\exp(l_i)}{\sum_j \exp(l_j)}$$
#
# Subtracting the largest logit from all of them does not change the result, and keeps the
# exponentials from overflowing.

# %% tags=["exercise"]
row = np.asarray(logits[-1], dtype=np.float64)
shifted = row - row.max()
probabilities = np.exp(shifted) / np.exp(shifted).sum()  # answer: the softmax of `shifted`
print(f"sum {probabilities.sum():.6f}, largest {probabilities.max():.6f}")

# %% [markdown] tags=["hint"]
# `np.exp` takes the exponential of every number of an array at once, and the method `sum` adds them
# up. An array can be divided by a number.

# %% [markdown]
# The package computes the same, as logarithms:

# %% tags=["check"]
expected = np.exp(core.log_softmax(logits)[-1])
assert np.shape(probabilities) == expected.shape, (
    "`probabilities` should have one number for each token of the vocabulary."
)
assert np.allclose(probabilities, expected), (
    "`probabilities` should be the exponentials of the logits, divided by the sum of all these "
    "exponentials, so that they add up to 1."
)

# %% [markdown]
# ## What comes next
#
# Sorted by probability, the tokens at the top are the model's prediction. By hand:

# %% tags=["exercise"]
best = np.argsort(-probabilities, kind="stable")[:10]  # answer: the ids of the ten likeliest tokens
for i in best:
    print(f"{probabilities[i]:.4f} {decoder.decode([int(i)])!r}")

# %% [markdown] tags=["hint"]
# `np.argsort` returns the places of an array's numbers, the place of the smallest number first. A
# token's place in `probabilities` is its id. Negate the probabilities to have the largest first,
# and take the first ten.

# %% tags=["check"]
assert np.array_equal(best, core.top_k(logits[-1], 10)[1]), (
    "`best` should hold ten ids: the places of the ten largest numbers in `probabilities`, the "
    "largest first."
)

# %% [markdown]
# The same with one call. *Cumulative* adds the probabilities up from the top.

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
    return decoder.logits(ids)[-1]


text = list(ids)
for _ in range(20):
    token = int(np.argmax(next_row(text)))  # answer: the id of the likeliest token after `text`
    text.append(token)
print(decoder.decode(text))

# %% [markdown] tags=["hint"]
# The softmax keeps the order, so the likeliest token is the one with the largest logit in
# `next_row(text)`. `np.argmax` finds its place; `int` makes it a plain integer.

# %% [markdown]
# This loop runs the model on the whole text at every step. `generate` keeps the intermediate
# results of earlier tokens (the "KV cache"), and gives the same tokens:

# %% tags=["check"]
greedy = decoder.generate(PROMPT, max_new_tokens=20)
assert greedy[0].token_ids == text[len(ids) :][: len(greedy[0].token_ids)], (
    f"greedy decoding writes {greedy[0].text!r}. In each round, `token` should be the id of the "
    "largest logit in `next_row(text)`."
)
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
cumulative = np.cumsum(probabilities)  # answer: the running sum of `probabilities`
winner = int(np.searchsorted(cumulative, number, side="right"))  # answer: the id that `number` hits
print(f"{number:.4f} falls on {decoder.decode([winner])!r}")

# %% [markdown] tags=["hint"]
# `np.cumsum` returns the sums from the left. The winner is the first token whose cumulative
# probability is larger than `number`: `np.searchsorted` with `side="right"` finds its place.

# %% [markdown]
# `draw` shows the same raffle. Internally, the package counts whole tickets instead of fractions,
# so the same seed gives the same winner on every computer.

# %% tags=["check"]
raffle = decoder.next_token(PROMPT).draw(seed=10)
assert np.shape(cumulative) == row.shape, "`cumulative` should have one number for each token."
assert np.isclose(cumulative[-1], 1), (
    "`cumulative` should grow from the first token's probability up to 1."
)
assert raffle.winner.id == winner, (
    f"`winner` should be {raffle.winner.id}: the id of the first token whose cumulative "
    f"probability is above {number:.4f}."
)
raffle

# %% [markdown]
# If you draw often enough, each token is drawn about as often as its probability predicts.

# %%
decoder.next_token(PROMPT).sample(200, seed=10)

# %% [markdown]
# Now the loop again, with a draw in place of the maximum: the sampling loop. The draw depends on
# the seed and on the position in the text, so every step draws a different ticket, and running the
# loop again with the same seed reproduces the whole text. `core.sample` draws from a row of logits.

# %% tags=["exercise"]
text = list(ids)
for _ in range(20):
    draw = core.sample(next_row(text), seed=10, positions=[len(text)])  # answer: a seeded draw
    text.append(int(draw.tokens[0]))
print(decoder.decode(text))

# %% [markdown] tags=["hint"]
# Call `core.sample` with the logits after `text`, `seed=10`, and `positions=[...]`, a list with one
# number: how many tokens `text` has so far.

# %% tags=["check"]
sampled = decoder.generate(PROMPT, do_sample=True, seed=10, max_new_tokens=20)
assert sampled[0].token_ids == text[len(ids) :][: len(sampled[0].token_ids)], (
    f"with seed 10, sampling writes {sampled[0].text!r}. Each draw should be made from "
    "`next_row(text)` with `seed=10` and `positions=[len(text)]`."
)
sampled[0].text

# %% [markdown]
# ## Taming the raffle
#
# Most tokens make no sense at any given place. Each of them is very unlikely, but there are
# thousands, and together they win more often than one would like. So the distribution is adjusted
# first:
#
# - **temperature** divides the logits by a number $T$, so that $p_i \propto \exp(l_i / T)$; a value
#   below 1 makes likely tokens likelier;
# - **top-k** keeps the $k$ likeliest tokens;
# - **top-p** keeps the smallest set of likeliest tokens whose probabilities reach $p$.
#
# The table shows the model's probabilities and, under *after*, the distribution that remains after
# these steps.

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
# The **surprisal** of a token is the negative logarithm of its probability, $-\log\, p_i$. With the
# natural logarithm its unit is the *nat*. The **entropy** at a step is the surprisal to be expected
# of the next token, $-\sum_i p_i \log\, p_i$: high where many tokens are possible, low in a word
# or a fixed phrase.

# %%
ax = traced[0].plot()

# %% [markdown]
# ## How likely is a sentence?
#
# By the **chain rule** of probability, the probability of a whole sentence is the product of the
# probabilities of its tokens $x_1, \ldots, x_n$, each given those before it:
#
# $$p(x_1, \ldots, x_n) = \prod_{i=1}^{n} p(x_i \mid x_1, \ldots, x_{i-1})$$
#
# This is exact, for any distribution and in any language. Each factor is what the model predicts:
# one entry of one row. Such a product soon becomes too small to compute with, so we add logarithms
# instead, and get the **sequence log-probability**:
#
# $$\log\, p(x_1, \ldots, x_n) = \sum_{i=1}^{n} \log\, p(x_i \mid x_1, \ldots, x_{i-1})$$
#
# A special token in front (BOS, beginning of sequence) gives the first word something to follow,
# and one at the end (EOS) says that the text ends there.


# %% tags=["exercise"]
def sequence_log_prob(sentence):
    """The log-probability of a sentence between a beginning and an end token, in nats."""
    bos, eos = decoder.tokenizer.bos_token_id, decoder.tokenizer.eos_token_id
    whole = [bos, *decoder.encode(sentence), eos]
    rows = core.log_softmax(decoder.logits(whole[:-1]))
    return sum(rows[i, token] for i, token in enumerate(whole[1:]))  # answer: the chain rule's sum


if MODEL == "demo":
    SENTENCES = [f"The king was very {word}." for word in ("glad", "red", "asdf")]
else:
    SENTENCES = [f"See you later, {word}." for word in ("alligator", "crocodile", "asdf")]
for sentence in SENTENCES:
    print(f"{sequence_log_prob(sentence):10.4f}  {sentence}")

# %% [markdown] tags=["hint"]
# Row `i` of `rows` holds the log-probabilities of the token that follows `whole[i]`, which is
# `whole[i + 1]`. Pick its entry from each row, `rows[i, whole[i + 1]]`, and add them up.

# %% tags=["check"]
scores = decoder.score(SENTENCES)
assert np.allclose(scores.logprobs, [sequence_log_prob(text) for text in SENTENCES]), (
    f"the log-probability of {SENTENCES[0]!r} should be {scores.logprobs[0]:.4f}: the sum, over "
    "all tokens but BOS, of the token's entry in the row before it."
)
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
# Greedy decoding takes the largest factor of the chain rule at every step, and never looks back.
# But the likeliest sequence need not begin with the likeliest token: a good first token may lead to
# a place where every continuation is unlikely, and one small factor spoils the product. Here is
# such a place.

# %%
if MODEL == "demo":
    START, SECOND, STEPS = "Dorothy and the", " Tin", 3
else:
    START, SECOND, STEPS = "See you", " there", 5
decoder.next_token(START, k=3)

# %%
decoder.next_token(START + SECOND, k=3)

# %% [markdown]
# To the demo model, *Lion* is a little likelier than *Tin*, so greedy decoding takes it. But many
# words may follow *Lion*, each of them unlikely, whereas after *Tin* the model is almost certain of
# *Woodman*: *Tin Woodman* is ten times as likely as any pair of tokens that begins with *Lion*.
#
# **Beam search** therefore keeps several beginnings (the *beams*), extends each of them by every
# token, and keeps those with the largest sums of log-probabilities.


# %% tags=["exercise"]
def beam_search(ids, width, steps):
    """The best sequences, the best one first, and the log-probability of each."""
    kept = [(0.0, list(ids))]
    for _ in range(steps):
        longer = []
        for total, sequence in kept:
            logprobs = core.log_softmax(next_row(sequence))
            for token in np.argsort(-logprobs)[:width].tolist():
                added = total + logprobs[token]  # answer: the longer sequence's log-probability
                longer.append((added, [*sequence, token]))
        kept = sorted(longer, reverse=True)[:width]  # answer: the `width` best pairs of `longer`
    return kept


for width in (1, 3):
    total, sequence = beam_search(decoder.encode(START), width, STEPS)[0]
    print(f"width {width}: {np.exp(total):.5f}  {decoder.decode(sequence)!r}")

# %% [markdown] tags=["hint"]
# Log-probabilities add up: that of the longer sequence is `total`, that of the shorter one, plus
# that of the new token, `logprobs[token]`. `sorted` compares pairs by their first entries;
# `reverse=True` puts the largest first.

# %% [markdown]
# With a width of one this is greedy decoding. With three it finds a sequence that is far likelier,
# although its first token is not the likeliest. (It is enough to extend each beam by its `width`
# likeliest tokens: any other token comes after `width` better ones, and cannot be kept.) The same
# with one call; `trace=True` also keeps the tree of the candidates:

# %% tags=["check"]
beams = decoder.generate(START, num_beams=3, max_new_tokens=STEPS, trace=True)
by_hand = beam_search(decoder.encode(START), 3, STEPS)[0]
assert by_hand[1] == decoder.encode(START) + beams[0].token_ids, (
    f"three beams should find {beams[0].text!r}. `added` should be the sum of all "
    "log-probabilities so far, and `kept` should hold the pairs of `longer` with the largest sums."
)
beams.tree

# %% [markdown]
# Each column is a step, and each box a candidate with its sum of log-probabilities. The path of the
# best sequence is green. The dashed box marks the place where greedy decoding leaves it.

# %%
greedy_start = decoder.generate(START, max_new_tokens=STEPS)
duel = decoder.compare([START + greedy_start[0].text, START + beams[0].text], eos=False)
duel

# %% [markdown]
# Beam search comes without a guarantee: what falls out of the beams is lost, and the best sequence
# may have begun there. And likely is not the same as good: like greedy text, the result is often
# bland. Beam search suits tasks with a right answer, such as translation, better than stories.
#
# ## Sorting texts into classes
#
# A classifier says to which class $y$ a text $x$ belongs. There are two ways to build one:
#
# - A **discriminative** classifier models $p(y \mid x)$ directly. From labelled texts it learns
#   where the border between the classes lies, and nothing else about the texts. Logistic regression
#   is one, and so is a neural network with an output for each class.
# - A **generative** classifier models the texts of each class, $p(x \mid y)$, the **likelihood**,
#   and how frequent each class is before any text is read, $p(y)$, the **prior**. Bayes' rule
#   combines them into the **posterior**, the probability of each class after the text is read:
#
# $$p(y \mid x) = \frac{p(x \mid y) \, p(y)}{\sum_{y'} p(x \mid y') \, p(y')}$$
#
# Naive Bayes is a generative classifier. A language model can be used as one without any labelled
# text, because it can say how likely a text is *after a given prompt*: write a prompt for each
# class, and let $p(x \mid y)$ be the probability of the text after the prompt of $y$, by the chain
# rule. A new class is a new prompt, and the priors can be changed at any time. Given many labelled
# texts, a discriminative classifier is usually the more accurate one, since the border is all it
# has to learn.

# %%
if MODEL == "demo":
    LABELS = {
        "fairy tale": "Once upon a time there was a king, and",
        "detective story": "My friend Sherlock Holmes lit his pipe, and",
    }
    TEXTS = [
        "his daughter was the most beautiful in the land.",
        "the young lady told us her story.",
        "the door of the house was locked.",
    ]
else:
    LABELS = {"positive": "A very positive review:", "negative": "A very negative review:"}
    TEXTS = [
        "I loved every minute of it.",
        "What a waste of an evening.",
        "I saw it last night.",
    ]

decoder.classify(TEXTS[0], list(LABELS), prompts=LABELS)

# %% [markdown]
# By hand. With equal priors, $p(y)$ is the same factor everywhere in Bayes' rule, and cancels:

# %% tags=["exercise"]
likelihoods = [
    np.exp(decoder.score(" " + TEXTS[0], context=prompt, eos=False)[0].logprob)
    for prompt in LABELS.values()
]
posterior = np.array(likelihoods) / sum(likelihoods)  # answer: the probability of each class
print(dict(zip(LABELS, posterior.round(4).tolist(), strict=True)))

# %% [markdown] tags=["hint"]
# Bayes' rule divides each likelihood by the sum of all likelihoods, as the softmax divides each
# exponential by the sum of all exponentials. A list cannot be divided, but an array can:
# `np.array(likelihoods)`.

# %% tags=["check"]
found = decoder.classify(TEXTS[0], list(LABELS), prompts=LABELS).posterior
assert np.shape(posterior) == (2,), "`posterior` should hold one probability for each class."
assert np.allclose(posterior, [found[label] for label in LABELS]), (
    "`posterior` should hold the likelihoods, each divided by the sum of both, so that they add up "
    "to 1."
)

# %% [markdown]
# Several texts at once:

# %%
sorted_texts = decoder.classify(TEXTS, list(LABELS), prompts=LABELS)
sorted_texts

# %% [markdown]
# ### Priors
#
# The last text could come from either class, so it matters what we believe before we read it. The
# ratio of two posteriors is the ratio of the likelihoods times the ratio of the priors:
#
# $$\frac{p(y_1 \mid x)}{p(y_2 \mid x)}
# = \frac{p(x \mid y_1)}{p(x \mid y_2)} \cdot \frac{p(y_1)}{p(y_2)}$$
#
# Equal priors leave the decision to the likelihoods. On a shelf where nine books in ten are of the
# first class, the same text most likely belongs there:

# %%
on_the_shelf = decoder.classify(TEXTS[2], list(LABELS), prompts=LABELS, priors=[9, 1])
on_the_shelf

# %% [markdown]
# The first text leaves no doubt: its likelihoods are so far apart that even the opposite priors do
# not change the verdict.

# %%
decoder.classify(TEXTS[0], list(LABELS), prompts=LABELS, priors=[1, 9])

# %% [markdown]
# ### When not to believe a posterior
#
# Bayes' rule is exact, but its result is no better than the likelihoods and the classes that it is
# given. Does the next text come from a fairy tale or from a sea story?

# %%
whale = decoder.classify(
    "the whale was seen from the boat.",
    ["fairy tale", "sea story"],
    prompts=[
        "Once upon a time there was a king, and",
        "Captain Ahab stood on the deck of the ship, and",
    ],
)
whale

# %% [markdown]
# The demo model leans towards the fairy tale, and is wrong. Neither *whale* nor *Ahab* occurs in
# the books that it has read, so neither prompt prepares it for the text, which it finds about as
# unlikely after one as after the other. Two signs give such a case away: a posterior close to the
# prior, and a text that is unlikely in *every* class. For the second, look at the mean
# log-probability of a token, here and for the first text above:

# %%
for one in (whale, decoder.classify(TEXTS[0], list(LABELS), prompts=LABELS)):
    print({item.label: round(item.score.mean, 2) for item in one})

# %% [markdown]
# ## Finding the odd one out
#
# A text that a model finds unlikely may contain an error, or something new. This is the idea of
# anomaly detection: rank texts by the mean log-probability of their tokens. (The mean, so that long
# texts do not count as unusual merely because they are long.)
#
# A line of a log is not a whole text, so we leave out the end token with `eos=False`. The model
# rarely expects a text to end: with the end token, even an ordinary line would look odd, and the
# end would be its worst token.

# %%
LINES = [
    "The old man went home to his wife.",
    "She looked at him, and said nothing.",
    "The old man 0x7f went null to his home.",
    "They sat down by the fire.",
]
odd = decoder.surprising(LINES, eos=False)
odd

# %% [markdown]
# ## Where to go from here
#
# Try another model, change a seed, or use `trace=True` wherever something looks odd. The guide
# shows more of what each call can do; `generate` and `score`, for example, take whole lists of
# texts and run them in batches.
