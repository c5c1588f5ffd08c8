"""The tree of a beam search: what it holds, and each of its drawings."""

import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from conftest import ragged
from fastdecode import Beam, BeamTree
from fastdecode.display.tree_text import visible
from fastdecode.results.beam_tree import Branch
from rich.cells import cell_len


@pytest.fixture(scope="module")
def found(decoder):
    return decoder.generate(
        "Once upon", num_beams=3, num_return_sequences=2, max_new_tokens=5, trace=True
    )


def test_the_tree_holds_the_search(decoder, found):
    tree = found.tree
    assert isinstance(tree, BeamTree)
    numbers = [branch.id for branch in tree]
    assert len(set(numbers)) == len(numbers)
    known = {branch.id: branch for branch in tree}
    for branch in tree:
        above = known.get(branch.parent)
        assert branch.depth == (above.depth + 1 if above else 1)
        sum_above = above.score if above else 0.0
        assert branch.score == pytest.approx(sum_above + branch.logprob)
        assert above is None or above.fate == "kept"
        assert not branch.best or branch.returned
    best = [branch.token_id for branch in tree if branch.best]
    assert best == found[0].token_ids
    last = [branch for branch in tree if branch.best][-1]
    assert last.score / len(best) == pytest.approx(found[0].score)
    returned = {branch.id for branch in tree if branch.returned}
    assert len(returned) <= sum(len(item.token_ids) for item in found)
    # Six candidates a step: twice the beams, while none has ended.
    assert sum(branch.depth == 1 for branch in tree) == 6


def test_where_greedy_leaves(decoder, found):
    greedy = decoder.generate("Once upon", max_new_tokens=5)[0].token_ids
    best = found[0].token_ids
    tree = found.tree
    if greedy == best:
        assert tree.parted is None
    else:
        same = next(i for i, (a, b) in enumerate(zip(greedy, best, strict=False)) if a != b)
        path = [0, *(branch.id for branch in tree if branch.best)]
        assert tree.parted == path[same]


def hand_made():
    """A tree by hand: greedy takes "a", the best sequence begins with "<b>"."""
    rows = [
        (1, 0, 7, " a", 1, -0.5, -0.5, "kept", False, False),
        (2, 0, 8, '<b>"', 1, -0.9, -0.9, "kept", True, True),
        (5, 0, 9, "\n", 1, -3.0, -3.0, "pruned", False, False),
        (3, 2, 1, "\x1a]", 2, -0.1, -1.0, "finished", True, True),
        (4, 1, 2, "c", 2, -1.0, -1.5, "kept", False, False),
    ]
    return BeamTree("The & prompt", [Branch(*row) for row in rows])


def test_text():
    assert str(hand_made()) == (
        "The·&·prompt  0.00, greedy leaves the best here\n"
        "├─  ·ac  -1.50\n"
        '└─* <b>"\\x1a]  -1.00, end'
    )


def test_rich():
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=80, color_system=None)
    console.print(hand_made())
    lines = console.file.getvalue().splitlines()
    assert lines[0].rstrip() == "The·&·prompt  0.00, greedy leaves the best here"
    assert lines[2].rstrip() == '└── <b>"\\x1a]  -1.00, end'


def test_dot():
    dot = hand_made().to_dot()
    assert r'n2 [label="<b>\"\n-0.90", color=forestgreen, penwidth=2.5];' in dot
    assert r'n3 [label="\\x1a]\n-1.00"' in dot
    assert 'n0 [xlabel="greedy leaves the best here"];' in dot
    assert dot.count("->") == 5
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=dot.encode(), check=True, capture_output=True)


def test_mermaid():
    text = hand_made().to_mermaid()
    assert 'n2["#60;b#62;#34;<br/>-0.90"]:::best' in text
    assert 'n3(["' in text
    assert "n0 -.-> n5" in text
    assert "n0 ==> n2" in text
    assert 'parted>"greedy leaves the best here"] -.- n0' in text


@pytest.mark.parametrize("pruned", [True, False])
def test_svg(found, pruned):
    for tree in (found.tree, hand_made()):
        root = ElementTree.fromstring(tree.to_svg(pruned=pruned))
        groups = [e for e in root.iter() if e.tag.endswith("}g")]
        shown = [branch for branch in tree if pruned or branch.fate != "pruned"]
        assert len(groups) == 1 + len(shown)
        assert "prefers-color-scheme: dark" in tree.to_svg()
        for text in root.iter("{http://www.w3.org/2000/svg}text"):
            assert text.text
    assert re.match("<svg ", found.tree._repr_svg_())


def boxes_and_texts(svg):
    """Each text with its estimated width and the width of what it has to fit into."""
    root = ElementTree.fromstring(svg)
    whole = float(root.get("width"))
    name = "{http://www.w3.org/2000/svg}"
    for text in root.iter(f"{name}text"):
        if text.get("class") == "note":
            yield text.text, float(text.get("x")) + 6.6 * len(text.text), whole
        elif text.get("class") == "score":
            yield text.text, float(text.get("x")) + 6.1 * len(text.text), whole
    for group in root.iter(f"{name}g"):
        box, token = group.find(f"{name}rect"), group.find(f"{name}text")
        yield token.text, 7.3 * cell_len(token.text), float(box.get("width"))


def narrow():
    """A tree of one step and one box, far narrower than its legend."""
    return BeamTree("A", [Branch(1, 0, 7, "b", 1, -0.5, -0.5, "finished", True, True)])


def wide_characters():
    """Tokens whose characters take two cells each, and numbers of many digits."""
    rows = [
        Branch(1, 0, 7, "漢字漢字漢字漢字漢字", 1, -1000.5, -1000.5, "kept", True, True),
        Branch(2, 0, 8, "abcdefghijkl", 1, -1000.9, -1000.9, "kept", True, False),
        Branch(3, 1, 9, "mnopqrstuvwx", 2, -1000.1, -2000.6, "kept", True, True),
    ]
    return BeamTree("漢字漢字漢字漢字漢字漢字漢字漢字", rows)


def test_every_text_of_the_svg_fits(found):
    for tree in (found.tree, hand_made(), narrow(), wide_characters()):
        for text, width, room in boxes_and_texts(tree.to_svg()):
            assert width <= room, text
    # What a legend says of lines that the drawing lacks would only puzzle.
    assert "Grey" not in narrow().to_svg()
    assert "Thick right edge" in narrow().to_svg()


def test_columns_of_the_svg_do_not_overlap():
    """A score ends before the boxes of the next column begin, however long the tokens."""
    root = ElementTree.fromstring(wide_characters().to_svg())
    name = "{http://www.w3.org/2000/svg}"
    ends = [
        float(t.get("x")) + 6.1 * len(t.text)
        for t in root.iter(f"{name}text")
        if t.get("class") == "score"
    ]
    starts = [float(g.find(f"{name}rect").get("x")) for g in root.iter(f"{name}g")]
    assert max(ends[:2]) < max(starts)


def test_the_drawing_in_a_page_takes_the_colours_of_the_page(found):
    """Inline it has no ground and the page's text colour; alone it has both for each scheme."""
    page = found.tree._repr_html_()
    assert page.startswith('<div class="fastdecode">')
    assert "<svg " in page
    style = re.search("<style>(.fd-beams.*?)</style>", page, re.DOTALL)[1]
    for rule in style.split("}"):
        _, _, body = rule.partition("{")
        if re.search(r"#[0-9a-f]{6}", body):
            assert ":root" in rule
    assert "fill: currentColor" in style
    assert not re.search(r"<script|src=|href=|url\(|@import", page)


def test_visible():
    assert visible(" a\nb\tc\x00") == "·a⏎b⇥c\\x00"


def test_one_tree_a_prompt(decoder):
    several = decoder.generate(ragged(3), num_beams=2, max_new_tokens=3, trace=True)
    assert len(several.trees) == 3
    for tree, item in zip(several.trees, several, strict=True):
        assert tree.prompt == item.prompt
        assert [branch.token_id for branch in tree if branch.best] == item.token_ids
    with pytest.raises(ValueError, match=r"there are 3 trees, one a prompt: use trees\[i\]"):
        _ = several.tree
    with pytest.raises(ValueError, match=r"there is no tree: run a beam search with trace=True"):
        _ = decoder.generate("Once", num_beams=2, max_new_tokens=2).tree


def test_variants_have_trees(decoder):
    for beam in (Beam(4, num_beam_groups=2), Beam(3, stochastic=True)):
        found = decoder.generate("Once", strategy=beam, trace=True, max_new_tokens=4, seed=1)
        assert [b.token_id for b in found.tree if b.best] == found[0].token_ids


def run(*arguments):
    command = [sys.executable, "-m", "fastdecode", "beam", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line():
    demo = ("Once upon a time", "--model", "demo", "--max-new-tokens", "4")
    listed = run(*demo, "-n", "3")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert len(lines) == 3
    assert all("Once upon a time" in line for line in lines)
    drawn = run(*demo, "--tree", "--as", "svg")
    assert ElementTree.fromstring(drawn.stdout).tag.endswith("svg")
    assert run(*demo, "--tree").stdout.startswith("Once·upon·a·time  0.00")
    wrong = run(*demo, "-n", "9")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "error: num_return_sequences=9 must be between 1 and num_beams=4; "
        "raise num_beams to get more\n"
    )
