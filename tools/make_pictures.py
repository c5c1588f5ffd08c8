"""Make the README's pictures from real output: screenshots of HTML views, light and dark.

    python tools/make_pictures.py

Needs Chromium (Debian: `apt-get install chromium`) and no network. Writes two files for each
picture to docs/pictures: NAME-light.png and NAME-dark.png.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import fastdecode
from fastdecode.display.html import fragment, page

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTH, _HEIGHT, _EDGE = 760, 900, 16
_WIDER = {"beam": 960}
# Show the panel of one token, as if the pointer were on it.
_OPEN = "<style>body{margin:16px!important}.open .panel{display:block!important}</style>"


def views() -> dict[str, str]:
    """The HTML of each picture, by name."""
    decoder = fastdecode.Decoder.from_pretrained("demo")
    story = decoder.generate("Once upon a time", top_p=0.9, seed=3, max_new_tokens=30, trace=True)
    opened = story.to_html().split('class="tok"')
    place = 6
    opened[place : place + 2] = [f'{opened[place]}class="tok open"{opened[place + 1]}']
    room = fragment('<div style="height:17em"></div>')
    return {
        "next-token": decoder.next_token("Alice was very", temperature=0.8, top_p=0.5).to_html(),
        "trace": 'class="tok"'.join(opened) + room,
        "compare": decoder.compare(
            [f"The king was very {word}." for word in ("glad", "red", "asdf")]
        ).to_html(),
        "beam": decoder.generate(
            "Dorothy and the", num_beams=3, max_new_tokens=3, trace=True
        ).tree.to_svg(),
    }


def photograph(browser: str, html: str, width: int, dark: bool) -> bytes:
    """A PNG screenshot of the page, cropped to its content."""
    from PIL import Image, ImageChops

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(html.replace("</head>", f"{_OPEN}</head>"), encoding="utf-8")
        scheme = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--force-device-scale-factor=1.5",
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{_HEIGHT}",
                f"--screenshot={target}",
                *scheme,
                source.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        picture = Image.open(target).convert("RGB")
    ground = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
    box = ImageChops.difference(picture, ground).getbbox() or (0, 0, *picture.size)
    right, bottom = (min(box[i + 2] + _EDGE, picture.size[i]) for i in (0, 1))
    drawn = io.BytesIO()
    picture.crop((0, 0, right, bottom)).quantize(128).save(drawn, "PNG", optimize=True)
    return drawn.getvalue()


def main() -> None:
    """Make all pictures."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(_BROWSERS)} is installed")
    PICTURES.mkdir(exist_ok=True)
    for name, body in views().items():
        width = _WIDER.get(name, _WIDTH)
        for scheme in ("light", "dark"):
            png = photograph(browser, page(name, body), width, scheme == "dark")
            (PICTURES / f"{name}-{scheme}.png").write_bytes(png)


if __name__ == "__main__":
    main()
