"""Run this cell first: it says what an open blank is for, and keeps error messages short."""

import re
import textwrap
import traceback

from IPython import get_ipython


def explain_blanks(shell):
    """Have open blanks explained, and errors shown without the code of libraries."""
    line_parts = re.compile(r"\s*(?P<code>[^#]*?)\s*(?:#.*?(?:your turn: (?P<wanted>.+))?)?")
    blank = re.compile(r"(?:.* = |return )?\.\.\.")
    made = re.compile(r"\s*(?:(\w+) = |def (\w+))")
    expected, waiting = [], set()

    class OpenBlankError(Exception):
        def _render_traceback_(self):
            return [str(self)]

    def read_blanks(lines):
        expected.clear()
        still_open = []
        for number, line in enumerate(lines, 1):
            code, wanted = line_parts.fullmatch(line.rstrip()).group("code", "wanted")
            sentence = f"{subject(code)} should be {wanted}." if wanted else ""
            if sentence:
                expected.append(sentence)
            if blank.fullmatch(code):
                still_open.append(
                    f"Line {number} is still blank{': ' * bool(sentence)}{sentence or '.'}"
                )
        names = {name for line in lines if (found := made.match(line)) for name in found.groups()}
        if still_open:
            waiting.update(names)
            how = "Replace the three dots. A hint and the solution are below this cell."
            raise OpenBlankError(sentences([*still_open, how]))
        waiting.difference_update(names)
        return lines

    def sentences(items):
        return "\n".join(textwrap.fill(item, 90, break_on_hyphens=False) for item in items)

    def subject(code):
        name, assigned, _ = code.partition(" = ")
        return f"`{name}`" if assigned else "the value returned"

    def in_short(shell, kind, error, trace, tb_offset=None):
        frames = [frame for frame, _ in traceback.walk_tb(trace)]
        places = [
            place
            for frame, place in zip(frames, traceback.extract_tb(trace), strict=True)
            if frame.f_globals is shell.user_global_ns
        ]
        failed_check = isinstance(error, AssertionError) and error.args
        if failed_check and frames[-1].f_globals is shell.user_global_ns:
            shown = [f"Not yet: {error}"]
        elif isinstance(error, NameError) and error.name in waiting:
            shown = [
                f"`{error.name}` is missing: first fill in the blank of the cell that makes it."
            ]
        else:
            shown = [
                f"{'Line' if name == '<module>' else f'In {name}, line'} {number}: {line}"
                for _, number, name, line in places
            ]
            shown += [f"{kind.__name__}: {error}", *expected, "(%tb shows the whole traceback.)"]
        error._render_traceback_ = lambda: [sentences(shown)]
        shell.showtraceback((kind, error, trace))
        del error._render_traceback_

    shell.input_transformers_cleanup.append(read_blanks)
    shell.set_custom_exc((Exception,), in_short)


explain_blanks(get_ipython())
