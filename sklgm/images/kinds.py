"""What a file that cannot be read is, told by its first bytes, and what to do about it."""

import re
from collections.abc import Iterable

from PIL import Image

N_BYTES = 2048

_UNPACK = "unpack it first"
_EXPORT = "export it as PNG first"
_DEVELOP = "a camera's raw picture; develop it to JPEG or PNG first"
_FETCH = "fetch it again"
# Each with what the file is and what to do; the first that matches counts.
_KINDS = [
    (rb"\Z", f"an empty file; {_FETCH}"),
    (rb"version https://git-lfs", "a Git LFS pointer; fetch the file itself by: git lfs pull"),
    (rb"\S*/annex/objects/", "a git-annex pointer; fetch the file itself by: git annex get ."),
    (rb"\0\x05\x16\x07", "a note of macOS about another file; delete it"),
    (rb".{4}ftypcrx|II.{6}CR|MM\0\*.{4}CR|FUJIFILM|IIU\0|IIR[OS]|MMOR|\0MRM|FOVb", _DEVELOP),
    (rb".{4}ftyp(hei|hev|mif1|msf1)",
     'a HEIC picture, for which pillow-heif is missing: pip install "sklgm[heif]"'),
    (rb".{4}ftypavi", "an AVIF picture; it is read by Pillow 11.3 or newer"),
    (rb"\xff\n|\0{3}\x0cJXL ", f"a JPEG XL picture; {_EXPORT}, by djxl say"),
    (rb".{4}(ftyp|moov|mdat)|\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\x01[\xb3\xba]|OggS|FLV|0&\xb2u",
     "a video; save its frames as images first, by ffmpeg say"),
    (rb".{128}DICM", "a DICOM file; pass arrays in [0, 1], made of pydicom's pixel_array"),
    (rb"\x93NUMPY", "a numpy file; pass the array itself: X = numpy.load(path)"),
    (rb"\x89HDF|CDF|GRIB|BUFR|MATLAB|PAR1|NRRD|.{344}n[i+]1\0",
     "a file of data; read it by its own library and pass arrays"),
    (rb"%PDF", "a PDF document; save its pages as PNG first, by pdftoppm say"),
    (rb"8BPS|gimp xcf|v/1\x01|#\?RADIANCE|#\?RGBE|\xd7\xcd\xc6\x9a|\x01\0{3}.{36} EMF|AC10",
     f"a picture of a kind that Pillow does not read; {_EXPORT}"),
    (rb"PK[\x03\x05]|\x1f\x8b|7z\xbc|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar",
     f"an archive; {_UNPACK}"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head|<body|<script)",
     f"a web page, as a failed download leaves it; {_FETCH}"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<.*)?<svg[\s>]", f"an SVG drawing; {_EXPORT}, by resvg say"),
    (rb"(\xef\xbb\xbf)?\s*<", f"an XML document; {_FETCH}"),
    (rb"(\xef\xbb\xbf)?\s*[\[{]", f"a JSON document; {_FETCH}"),
    (rb"\xff\xd8|\x89PNG|GIF8|II\*\0|MM\0\*|BM.{4}\0{4}|RIFF.{4}WEBP",
     f"damaged, or of a variant that Pillow does not read; {_FETCH}, or save it anew"),
    (rb"\0{64}", f"a file that begins with zeros, as a broken-off copy does; {_FETCH}"),
    (rb"[\t-\r\x1b -\x7e\x80-\xff]+\Z", "a text file"),
]  # fmt: skip


def name_kind(head: bytes, others: Iterable[tuple[bytes, str]] = ()) -> str:
    """Say what a file is that cannot be read, by its first `N_BYTES` bytes, and what to do.

    Patterns of ``others``, each with what such a file is, come before those of all files.
    """
    for pattern, words in (*others, *_KINDS):
        if re.match(pattern, head, re.DOTALL):
            for kind, is_read in (("HEIC", "HEIF" in Image.OPEN), ("AVIF", "AVIF" in Image.SAVE)):
                if kind in words and is_read:
                    words = f"a damaged {kind} picture; {_FETCH}"
            return f"it is {words}"
    return f"it begins with {head[:16]!r}, as no file does that is known here"
