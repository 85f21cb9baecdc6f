"""Pictures as text, to stand inside a page."""

import base64
import html
import io
from typing import Any

import numpy as np
from PIL import Image

_MOST_IN_A_STRIP = 36
# Height and width, at most, of a picture in pixels.
_MOST_PIXELS = 144


def picture(image: np.ndarray) -> str:
    """Return an RGB image, bytes or floats in [0, 1], as the data URI of a small PNG."""
    if image.dtype != np.uint8:
        image = np.rint(image * 255).astype(np.uint8)
    drawn = Image.fromarray(image)
    drawn.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    buffer = io.BytesIO()
    drawn.save(buffer, format="PNG")
    return _data_uri(buffer)


def figure_picture(figure: Any) -> str:
    """Return a matplotlib figure as a data URI, twice as fine as a screen, and close it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * 80, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return _data_uri(buffer)


def picture_strip(images: np.ndarray, labels: np.ndarray) -> str:
    """Return the first few dozen of some images, with their labels, side by side, as HTML."""
    shown = list(zip(images, labels.tolist(), strict=True))[:_MOST_IN_A_STRIP]
    parts = [
        f'<figure style="margin:0;width:72px"><img src="{picture(image)}" alt="prototype" '
        f'style="width:100%;image-rendering:pixelated"><figcaption style="font-size:.8em;'
        f'overflow-wrap:anywhere">{html.escape(str(label))}</figcaption></figure>'
        for image, label in shown
    ]
    if len(images) > len(shown):
        parts.append(f"<div>and {len(images) - len(shown)} more</div>")
    style = "display:flex;flex-wrap:wrap;gap:8px;margin-top:8px"
    return f'<div class="sklgm-prototypes" style="{style}">{"".join(parts)}</div>'


def _data_uri(buffer: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
