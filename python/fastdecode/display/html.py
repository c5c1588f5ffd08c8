"""Self-contained HTML: every text escaped, no scripts, nothing fetched, for light and dark themes.

Colours are translucent over the page's background, and text keeps the page's colour, so the theme
need not be known. Only a panel that opens over the text needs a background; it takes the
notebook's, else the browser's (`Canvas` follows the colour scheme).
"""

from __future__ import annotations

from html import escape

__all__ = ["escape", "fragment", "page"]

_STYLE = """
.fastdecode{font-size:.92em;line-height:1.5;color:inherit}
.fastdecode table{border-collapse:collapse;margin:.4em 0;width:auto;color:inherit;
background:transparent;border:0}
.fastdecode th,.fastdecode td{padding:.15em .6em;border:0;
border-bottom:1px solid rgba(128,128,128,.3);text-align:left;white-space:nowrap;
background:transparent;color:inherit;vertical-align:middle}
.fastdecode th{font-weight:600;border-bottom:2px solid rgba(128,128,128,.55)}
.fastdecode .n{text-align:right;font-variant-numeric:tabular-nums}
.fastdecode .w{white-space:pre-wrap;max-width:46em}
.fastdecode .t{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
white-space:pre-wrap}
.fastdecode td.side{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",
monospace;white-space:pre;padding:.25em .2em}
.fastdecode td.flow{white-space:pre-wrap}
.fastdecode tr.cut td{opacity:.55}
.fastdecode tr.cut .bar i{background:rgba(128,128,128,.55)}
.fastdecode tr.won td{background:rgba(34,160,90,.22);font-weight:600}
.fastdecode .bar{display:inline-block;width:6.5em;height:.8em;vertical-align:middle}
.fastdecode .bar i{display:block;height:100%;min-width:1px;border-radius:2px;
background:rgba(37,120,235,.75)}
.fastdecode .note{margin:.3em 0;opacity:.85}
.fastdecode .flow{line-height:2.1;white-space:pre-wrap;margin:.4em 0}
.fastdecode .tok{position:relative;border-radius:3px;padding:.12em 0;cursor:default;
box-shadow:inset -1px 0 0 rgba(128,128,128,.35)}
.fastdecode .tok.given{opacity:.75;box-shadow:none}
.fastdecode .tok.decides{border-radius:0;
box-shadow:inset 0 3px 0 rgb(225,50,60),inset 0 -3px 0 rgb(225,50,60)}
.fastdecode .tok .panel{display:none;position:absolute;left:0;top:1.9em;z-index:9;padding:.5em .7em;
border-radius:6px;border:1px solid rgba(128,128,128,.6);white-space:nowrap;line-height:1.4;
font-weight:400;box-shadow:0 4px 14px rgba(0,0,0,.3);
background:var(--jp-layout-color1,var(--vscode-editor-background,
var(--color-background-primary,Canvas)));
color:var(--jp-content-font-color1,var(--vscode-editor-foreground,
var(--color-foreground-primary,CanvasText)))}
.fastdecode .tok:hover .panel,.fastdecode .tok:focus .panel{display:block}
.fastdecode .tok:focus{outline:2px solid rgba(37,120,235,.8)}
.fastdecode .panel table{margin:.3em 0 0;font-size:.95em}
.fastdecode .wide{overflow-x:auto;margin:.4em 0}
.fastdecode .key span{padding:.1em .5em;border-radius:3px;margin-right:.25em}
""".strip().replace("\n", "")


def fragment(body: str) -> str:
    """HTML for a notebook's output, with its style."""
    return f'<div class="fastdecode"><style>{_STYLE}</style>{body}</div>'


def page(title: str, body: str) -> str:
    """A whole page around a fragment."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>"
        "<style>body{font-family:system-ui,sans-serif;margin:2em auto;max-width:60em;"
        "padding:0 1em}</style></head>"
        f"<body>{body}</body></html>\n"
    )
