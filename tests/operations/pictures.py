"""Pictures for the documents: a browser's screenshots are large, and a page has few colours. The browser itself counts
them, and what is left is a PNG with a palette.
"""

import base64
import json
import zlib

from tests.operations.browser import Tab

COLOURS = 32

# The most frequent colours become the palette, and every pixel the nearest of them.
_REDUCE = """
(async () => {
  const picture = new Image();
  picture.src = 'data:image/png;base64,%s';
  await picture.decode();
  const [width, height] = [picture.width, picture.height];
  const drawing = new OffscreenCanvas(width, height).getContext('2d');
  drawing.drawImage(picture, 0, 0);
  const pixels = new Uint32Array(drawing.getImageData(0, 0, width, height).data.buffer);
  const seen = new Map();
  for (const pixel of pixels) seen.set(pixel, (seen.get(pixel) || 0) + 1);
  const split = colour => [colour & 255, colour >> 8 & 255, colour >> 16 & 255];
  const palette = [...seen].sort((a, b) => b[1] - a[1]).slice(0, %d).map(one => split(one[0]));
  const nearest = new Map();
  for (const colour of seen.keys()) {
    const far = palette.map(one => split(colour).reduce((sum, part, n) => sum + (part - one[n]) ** 2, 0));
    nearest.set(colour, far.indexOf(Math.min(...far)));
  }
  let text = '';
  for (let row = 0; row < height; row++)
    text += String.fromCharCode(0, ...pixels.subarray(row * width, (row + 1) * width).map(one => nearest.get(one)));
  return JSON.stringify({width, height, palette, rows: btoa(text)});
})()
"""


async def squeezed(tab: Tab, png: bytes) -> bytes:
    """The same picture in COLOURS colours. Leaves the tab on an empty page."""
    await tab.go("about:blank")
    told = json.loads(await tab.value(_REDUCE % (base64.b64encode(png).decode(), COLOURS)))
    header = told["width"].to_bytes(4) + told["height"].to_bytes(4) + bytes((8, 3, 0, 0, 0))
    parts = {
        b"IHDR": header,
        b"PLTE": bytes(value for colour in told["palette"] for value in colour),
        b"IDAT": zlib.compress(base64.b64decode(told["rows"]), 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts.items())


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
