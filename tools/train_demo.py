#!/usr/bin/env python3
"""Train the demo model: a tiny GPT-2 on a folder of plain-text books.

    python tools/train_demo.py TEXT_DIR OUT_DIR [--seed 1234]

Cleans the books, trains a byte-level BPE tokenizer and a ``GPT2LMHeadModel`` on the training part,
and saves the weights with the lowest held-out loss in float16. Then it loads the saved files,
measures their loss, draws samples, and writes the results into OUT_DIR/README.md between HTML
comment markers, leaving the prose around them unchanged.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

EOT = "<|endoftext|>"
CONTEXT = 512
SAMPLE_PROMPTS = (
    "",  # from BOS alone
    "",
    "Once upon a time",
    "Once upon a time there was a little girl who",
    "There was once a king who had three sons.",
    "The old woman opened the door and",
    '"My dear Holmes," said I,',
    "Alice looked up at the Cat, and",
    '"I am sorry," said Elizabeth, "but',
    "Dorothy and the Scarecrow walked along the road",
)


# ---------------------------------------------------------------- cleaning


def straighten(text: str) -> str:
    """Replace curly quotes and dashes with ASCII; remove BOM, CR and _italics_ marks."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    table: dict[str, str | int | None] = {
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "`": "'",
        "—": "--",
        "_": None,
    }
    return text.translate(str.maketrans(table))


def swap_quotes(text: str) -> str:
    """Replace British dialogue quotes ('...' with "..." inside) with American ones.

    Apostrophes are kept. With one convention, a small model can spend its capacity on words.
    """
    text = text.replace('"', "\0")
    text = re.sub(r"(?<![^\s(\-\0])'(?!tis\b|twas\b|em\b|\s)(?=[\w\0\-(])", '"', text, flags=re.I)
    # Closing: after punctuation, or after a letter with a quotation open and no possessive near.
    out: list[str] = []
    is_open = False
    for i, char in enumerate(text):
        before, after = text[i - 1 : i], text[i + 1 : i + 2]
        if char == '"':
            is_open = True
        elif char == "'" and not after.isalnum() and (before in '.,!?;:)-*"\0' or is_open):
            possessive = before == "s" and re.match(r"' [a-z]", text[i:])
            if not possessive:
                char, is_open = '"', False
        out.append(char)
    return "".join(out).replace("\0", "'")


def uses_single_quotes(text: str) -> bool:
    """Whether dialogue is in single quotes, judged by which mark opens more paragraphs."""
    return len(re.findall(r"\n\n'", text)) > len(re.findall(r'\n\n"', text))


def clean_paragraph(lines: list[str]) -> str | None:
    """A paragraph as one line (verse keeps its lines), or None if it is not part of the text."""
    text = " ".join(line.strip() for line in lines)
    if text.startswith("*") or re.match(r"\[\*\]|[\[]later editions", text):
        return None  # scene breaks and footnotes
    if re.fullmatch(r"[IVX]+\.|\d+|THE END", text):
        return None  # section numbers, a stray page number
    if len(lines) == 1 and re.fullmatch(r"(\d+\. )?[A-Z ,]+", lines[0]):
        return None  # sub-headings
    if re.match(r"(FIRST|SECOND|THIRD|FOURTH|FIFTH|SIXTH|SEVENTH) STORY", text):
        return None
    verse = len(lines) > 1 and all(line.startswith("  ") for line in lines)
    kept = [line.strip() for line in lines] if verse else [text]
    return "\n".join(re.sub(r" {2,}", " ", re.sub(r" ?\[\*\]|\*", "", s)) for s in kept)


def chapters(raw: str) -> list[list[str]]:
    """The chapters or stories of a book, each a list of clean paragraphs.

    All six books have three or more blank lines before a heading and nowhere else (once before a
    paragraph, which is kept). Headings, title pages and contents are dropped.
    """
    text = straighten(raw)
    if uses_single_quotes(text):
        paragraphs = [swap_quotes(p) for p in re.split(r"\n\n", text)]
        text = "\n\n".join(paragraphs)
    text = re.split(r"\n\*{5}\n", text)[0]  # editor's note at the end
    found: list[list[str]] = []
    for section in re.split(r"\n{4,}", text):
        blocks = [b.split("\n") for b in re.split(r"\n{2,}", section.strip("\n"))]
        head = blocks[0][0].strip()
        if head.upper().startswith(("CONTENTS", "PREPARER", "INTRODUCTION", "PRODUCED BY")):
            continue
        if all(re.match(r"\s*[IVX]+\. ", line) for line in blocks[0][1:]) and blocks[0][1:]:
            continue  # a table of contents without a heading
        if len(blocks[0]) == 1 and not head.endswith('."'):
            blocks = blocks[1:]
        paragraphs = [p for p in (clean_paragraph(b) for b in blocks) if p]
        if sum(map(len, paragraphs)) >= 300:  # anything shorter is a title page
            found.append(paragraphs)
    return found


# ---------------------------------------------------------------- splitting


@dataclass(frozen=True)
class Split:
    """Training text, held-out blocks, and how many paragraphs went where."""

    train: list[str]
    held_out: list[str]


def split_book(book: list[list[str]], share: float, block_chars: int, rng: random.Random) -> Split:
    """Hold out contiguous blocks of about ``block_chars`` characters, at least one per book.

    The book is cut at paragraph borders into blocks; a share of them, drawn with ``rng``, is
    held out. A chapter's end is kept in its block as EOT, so both parts teach and test it.
    """
    blocks, current = [], ""
    for chapter in book:
        for i, paragraph in enumerate(chapter):
            current += paragraph + (EOT if i == len(chapter) - 1 else "\n")
            if len(current) >= block_chars:
                blocks.append(current)
                current = ""
    if current:
        blocks.append(current)
    count = max(1, round(share * len(blocks)))
    chosen = set(rng.sample(range(len(blocks)), count))
    runs = [""]
    for i, block in enumerate(blocks):
        if i in chosen:
            runs.append("")
        else:
            runs[-1] += block
    return Split([r for r in runs if r], [blocks[i] for i in sorted(chosen)])


def load_split(folder: Path, share: float, block_chars: int, seed: int) -> Split:
    """Clean and split every book of ``folder``."""
    rng = random.Random(seed)
    train: list[str] = []
    held_out: list[str] = []
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise SystemExit(f"no .txt file in {folder}")
    for path in paths:
        book = chapters(path.read_text(encoding="utf-8"))
        part = split_book(book, share, block_chars, rng)
        train += part.train
        held_out += part.held_out
        size = sum(len(p) for c in book for p in c)
        print(f"{path.name}: {len(book)} chapters, {size} characters", flush=True)
    return Split(train, held_out)


# ---------------------------------------------------------------- tokenizer


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer like GPT-2's, with EOT as the last id."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((t.replace(EOT, "\n") for t in texts), trainer)
    tokenizer.add_special_tokens([EOT])
    if tokenizer.get_vocab_size() != vocab_size:
        raise SystemExit(f"the text is too small for a vocabulary of {vocab_size}")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=EOT,
        eos_token=EOT,
        unk_token=EOT,
        pad_token=EOT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text of any length."""
    return cast(list[int], tokenizer.backend_tokenizer.encode(text).ids)


# ---------------------------------------------------------------- training


def paragraph_starts(stream: Tensor, newline: int, eot: int) -> Tensor:
    """Positions at which a paragraph or chapter starts."""
    border = (stream == newline) | (stream == eot)
    return border[:-1].nonzero().flatten() + 1


def epoch_windows(
    stream: Tensor, starts: Tensor, eot: int, snap: float, rng: torch.Generator
) -> Tensor:
    """One epoch: the training text cut at a random offset into rows of CONTEXT + 1, shuffled.

    A share ``snap`` of the rows is moved back to the start of a paragraph and gets EOT in front, so
    that position 0 is often BOS followed by a beginning, as when the model is used.
    """
    offset = int(torch.randint(0, CONTEXT, (1,), generator=rng))
    rows = []
    for begin in range(offset, len(stream) - CONTEXT - 1, CONTEXT):
        if float(torch.rand(1, generator=rng)) < snap:
            at = int(torch.searchsorted(starts, begin, right=True)) - 1
            begin = int(starts[max(at, 0)])
            rows.append(torch.cat([torch.tensor([eot]), stream[begin : begin + CONTEXT]]))
        else:
            rows.append(stream[begin : begin + CONTEXT + 1])
    order = torch.randperm(len(rows), generator=rng)
    return torch.stack(rows)[order]


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then cosine decay to a fiftieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizers(model: GPT2LMHeadModel, lr: float, decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers; AdamW for embeddings, biases and layer norms.

    With this few steps, Muon reached a lower loss than AdamW alone. Its updates are scaled to the
    size of AdamW's, so that both share one learning rate.
    """
    matrices, embeddings, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            vectors.append(parameter)
        elif ".h." in name:
            matrices.append(parameter)
        else:
            embeddings.append(parameter)
    groups = [
        {"params": embeddings, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(
            matrices, lr=lr, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98)),
    ]


@torch.no_grad()
def evaluate(model: GPT2LMHeadModel, blocks: list[list[int]], eot: int) -> tuple[float, int]:
    """Sum of the losses in nats, and number of tokens; every token of every block is predicted.

    Each block follows BOS and is read in windows of CONTEXT tokens that do not overlap.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for block in blocks:
        ids = torch.tensor([eot, *block])
        for begin in range(0, len(ids) - 1, CONTEXT):
            row = ids[begin : begin + CONTEXT + 1]
            logits = model(row[None, :-1], use_cache=False).logits[0].float()
            total += float(F.cross_entropy(logits, row[1:], reduction="sum"))
            count += len(row) - 1
    model.train(was_training)
    return total, count


@dataclass
class Point:
    """One row of the learning curve; ``train`` is measured without dropout on a fixed sample."""

    step: int
    epoch: float
    lr: float
    batches: float
    train: float
    held_out: float


def model_config(args: argparse.Namespace, eot: int) -> GPT2Config:
    """The model's configuration."""
    return GPT2Config(
        vocab_size=args.vocab_size,
        n_positions=CONTEXT,
        n_embd=args.n_embd,
        n_layer=args.n_layer,
        n_head=args.n_head,
        embd_pdrop=args.dropout,
        resid_pdrop=args.dropout,
        attn_pdrop=0.0,  # dropout inside attention would disable its fused CPU kernel
        bos_token_id=eot,
        eos_token_id=eot,
        tie_word_embeddings=True,
    )


def batches(
    args: argparse.Namespace, stream: Tensor, starts: Tensor, eot: int
) -> Iterator[tuple[Tensor, int]]:
    """Endless batches, each with the number of batches per epoch."""
    rng = torch.Generator().manual_seed(args.seed)
    while True:
        rows = epoch_windows(stream, starts, eot, args.snap, rng)
        per_epoch = len(rows) // args.batch_size
        for i in range(per_epoch):
            yield rows[i * args.batch_size : (i + 1) * args.batch_size], per_epoch


def train(
    args: argparse.Namespace,
    model: GPT2LMHeadModel,
    stream: Tensor,
    starts: Tensor,
    held_out: list[list[int]],
    train_sample: list[list[int]],
    eot: int,
) -> list[Point]:
    """Train, leave the best weights in ``model``, and return the learning curve."""
    optimizers = make_optimizers(model, args.lr, args.weight_decay)
    per_epoch = (len(stream) - CONTEXT) // CONTEXT // args.batch_size
    steps = args.max_steps or args.epochs * per_epoch
    curve: list[Point] = []
    best, best_state, bad, running = math.inf, {}, 0, []
    began = time.monotonic()
    model.train()
    for step, (rows, _) in enumerate(batches(args, stream, starts, eot)):
        lr = learning_rate(step, steps, args.lr, args.warmup)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.no_bf16):
            logits = model(rows[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        running.append(float(loss.detach()))
        done = step + 1
        if done % args.eval_every and done != steps:
            continue
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.no_bf16):
            total, count = evaluate(model, held_out, eot)
            seen, seen_count = evaluate(model, train_sample, eot)
        point = Point(
            step=done,
            epoch=done / per_epoch,
            lr=lr,
            batches=sum(running) / len(running),
            train=seen / seen_count,
            held_out=total / count,
        )
        curve.append(point)
        running = []
        seconds = time.monotonic() - began
        print(
            f"step {done}/{steps} epoch {point.epoch:.2f} lr {point.lr:.2e} "
            f"batches {point.batches:.4f} train {point.train:.4f} held-out {point.held_out:.4f} "
            f"[{seconds:.0f} s, {seconds / done:.2f} s per step]",
            flush=True,
        )
        if point.held_out < best:
            best, bad = point.held_out, 0
            best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
            if args.checkpoint:
                torch.save(best_state, args.checkpoint)
        else:
            bad += 1
        if done == steps or bad > args.patience:
            break
    model.load_state_dict(best_state)
    return curve


# ---------------------------------------------------------------- saving and reporting


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Save weights in float16 with the tied head stored once, configuration and tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    eot = tokenizer.eos_token_id
    # The padding id belongs here and not in config.json, where it would make every forward pass
    # over a text that contains EOT warn about padding.
    model.generation_config = GenerationConfig(bos_token_id=eot, eos_token_id=eot, pad_token_id=eot)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    # This class name works in every transformers release of recent years.
    path = out / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name in ("backend", "is_local", "local_files_only"):
        settings.pop(name, None)
    path.write_text(json.dumps(settings, indent=2) + "\n")


@torch.no_grad()
def draw(
    model: GPT2LMHeadModel,
    ids: list[int],
    eot: int,
    seed: int,
    *,
    tokens: int = 120,
    temperature: float = 0.8,
    top_k: int = 40,
) -> list[int]:
    """Plain torch sampling after BOS + ``ids``; stops at EOT."""
    rng = torch.Generator().manual_seed(seed)
    row = [eot, *ids]
    for _ in range(tokens):
        logits = model(torch.tensor([row]), use_cache=False).logits[0, -1].float() / temperature
        kept = logits.topk(top_k)
        pick = int(torch.multinomial(kept.values.softmax(-1), 1, generator=rng))
        row.append(int(kept.indices[pick]))
        if row[-1] == eot:
            break
    return row[1:]


def replace_block(card: str, name: str, body: str) -> str:
    """Put ``body`` between the markers of ``name``; append the markers if they are missing."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in card:
        card = f"{card.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = card.split(begin, 1)
    return f"{before}{begin}\n{body}\n{end}{rest.split(end, 1)[1]}"


def result_rows(
    args: argparse.Namespace,
    model: GPT2LMHeadModel,
    curve: list[Point],
    sizes: dict[str, int],
    loss: tuple[float, int],
    minutes: float,
) -> str:
    """The results table of the card."""
    nats, count = loss
    best = min(curve, key=lambda p: p.held_out)
    rows = {
        "Parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "Training text": f"{sizes['train_bytes']:,} bytes, {sizes['train_tokens']:,} tokens",
        "Held-out text": f"{sizes['held_bytes']:,} bytes, {count:,} tokens, "
        f"{sizes['held_blocks']} blocks",
        "Best step": f"{best.step:,} of {curve[-1].step:,} run (epoch {best.epoch:.1f})",
        "Held-out loss in training (bfloat16)": f"{best.held_out:.4f} nats a token",
        "**Held-out loss of the float16 files**": f"**{nats / count:.4f}** nats a token",
        "**Held-out perplexity**": f"**{math.exp(nats / count):.2f}** a token",
        "**Held-out bits per byte**": f"**{nats / math.log(2) / sizes['held_bytes']:.4f}**",
        "Options": f"`{json.dumps({k: v for k, v in vars(args).items() if k not in NOT_SHOWN})}`",
        "Made with": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"{args.threads} threads, {platform.machine()}, {minutes:.0f} minutes",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


NOT_SHOWN = {"text_dir", "out_dir", "checkpoint", "dump", "threads"}


def curve_table(curve: list[Point]) -> str:
    """The learning curve of the card."""
    rows = [
        f"| {p.step} | {p.epoch:.1f} | {p.lr:.1e} | {p.batches:.3f} | {p.train:.3f} | "
        f"{p.held_out:.3f} |"
        for p in curve
    ]
    head = "| step | epoch | learning rate | batches (dropout on) | train | held out |"
    return "\n".join([head, "|---:|---:|---:|---:|---:|---:|", *rows])


def samples_block(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, eot: int) -> str:
    """Ten samples, neither selected nor edited."""
    parts = []
    for seed, prompt in enumerate(SAMPLE_PROMPTS):
        ids = draw(model, encode(tokenizer, prompt), eot, seed)
        ended = ids[-1] == eot
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        name = f"prompt `{prompt}`" if prompt else "from BOS alone"
        tail = ", ended by itself" if ended else ""
        quoted = "\n".join(f"> {line}" if line else ">" for line in text.split("\n"))
        parts.append(f"{seed}. {name}, seed {seed}{tail}\n\n{quoted}")
    return "\n\n".join(parts)


def report(
    args: argparse.Namespace,
    curve: list[Point],
    sizes: dict[str, int],
    held_out: list[list[int]],
    eot: int,
    minutes: float,
) -> None:
    """Load the saved files, measure their loss, and write the results into the card."""
    model = GPT2LMHeadModel.from_pretrained(args.out_dir, dtype=torch.float32)
    tokenizer = cast(
        PreTrainedTokenizerFast,
        AutoTokenizer.from_pretrained(args.out_dir, trust_remote_code=False),
    )
    model.eval()
    loss = evaluate(model, held_out, eot)
    path = args.out_dir / "README.md"
    card = path.read_text(encoding="utf-8") if path.exists() else "# Demo model\n"
    card = replace_block(card, "results", result_rows(args, model, curve, sizes, loss, minutes))
    card = replace_block(card, "curve", curve_table(curve))
    card = replace_block(card, "samples", samples_block(model, tokenizer, eot))
    path.write_text(card, encoding="utf-8")
    nats, count = loss
    print(
        f"float16 files: loss {nats / count:.4f}, perplexity {math.exp(nats / count):.2f}, "
        f"bits per byte {nats / math.log(2) / sizes['held_bytes']:.4f}",
        flush=True,
    )


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("text_dir", type=Path, help="folder of .txt books")
    parser.add_argument("out_dir", type=Path, help="output folder")
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-steps", type=int, default=0, help="instead of --epochs, if not 0")
    parser.add_argument("--batch-size", type=int, default=4, help="rows of 512 tokens")
    parser.add_argument("--lr", type=float, default=2.5e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=120, help="steps")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--snap", type=float, default=0.15, help="share of rows that start at BOS")
    parser.add_argument("--n-layer", type=int, default=6)
    parser.add_argument("--n-head", type=int, default=6)
    parser.add_argument("--n-embd", type=int, default=192)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--held-out", type=float, default=0.05, help="share of the blocks")
    parser.add_argument("--block-chars", type=int, default=8000, help="length of a block")
    parser.add_argument("--eval-every", type=int, default=289, help="steps")
    parser.add_argument("--patience", type=int, default=4, help="evaluations without a new best")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-bf16", action="store_true", help="train in float32 throughout")
    parser.add_argument("--checkpoint", type=Path, help="also keep the best weights in this file")
    parser.add_argument("--dump", type=Path, help="write the cleaned text here and stop")
    return parser.parse_args()


def main() -> None:
    """Run all steps in order."""
    args = parse()
    began = time.monotonic()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    split = load_split(args.text_dir, args.held_out, args.block_chars, args.seed)
    if args.dump:
        args.dump.write_text(
            "\n=====\n".join(["\n".join(split.train), *split.held_out]).replace(EOT, f"\n{EOT}\n"),
            encoding="utf-8",
        )
        return
    tokenizer = train_tokenizer(split.train, args.vocab_size)
    eot = cast(int, tokenizer.eos_token_id)
    newline = encode(tokenizer, "\n")[0]
    runs = [encode(tokenizer, run) for run in split.train]
    stream = torch.tensor([eot] + [i for run in runs for i in run])
    held_out = [encode(tokenizer, block) for block in split.held_out]
    train_sample = [run[:2000] for run in runs if len(run) >= 2000][:5]
    sizes = {
        "train_bytes": sum(len(r.replace(EOT, "\n").encode()) for r in split.train),
        "train_tokens": len(stream),
        "held_bytes": sum(len(b.replace(EOT, "\n").encode()) for b in split.held_out),
        "held_tokens": sum(map(len, held_out)),
        "held_blocks": len(held_out),
    }
    print(sizes, flush=True)
    model = GPT2LMHeadModel(model_config(args, eot))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    starts = paragraph_starts(stream, newline, eot)
    curve = train(args, model, stream, starts, held_out, train_sample, eot)
    save(model, tokenizer, args.out_dir)
    minutes = (time.monotonic() - began) / 60
    report(args, curve, sizes, held_out, eot, minutes)
    if args.checkpoint:
        curve_file = args.checkpoint.with_suffix(".json")
        curve_file.write_text(json.dumps([asdict(p) for p in curve], indent=1) + "\n")


if __name__ == "__main__":
    main()
