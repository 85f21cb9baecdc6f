"""Files under the name of an image that are none: the message says what they are."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from sklgm.images import check_images
from sklgm.images.decoding import file_to_rgb


def saved(save, *args, **kwargs):
    stream = io.BytesIO()
    save(stream, *args, **kwargs)
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a.png", b"")
    return stream.getvalue()


def container(brand):
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0isommp42" + bytes(64)


PICTURE = Image.new("RGB", (9, 9))
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
METAFILE = b"\xd7\xcd\xc6\x9a" + struct.pack("<3h2HIHH", 0, 0, 0, 9, 9, 96, 0, 1) + bytes(64)
KINDS = {
    "empty": (b"", "empty file"),
    "zeros": (bytes(5000), "zeros"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "git lfs pull"),
    "git-annex": (b"/annex/objects/MD5E-s9--d41d8.jpg\n", "git annex get"),
    "macOS": (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "note of macOS"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing.*PNG"),
    "SVG in XML": (XML + b"<!-- Inkscape -->\n<svg\n width='4'/>", "SVG drawing"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><svg></svg></html>", "web page"),
    "XML": (XML + b"<Error><Code>AccessDenied</Code></Error>", "XML document"),
    "JSON": (b'{"error": "not found"}', "JSON document"),
    "text": ("Größe: 3\n".encode(), "text file"),
    "PDF": (saved(PICTURE.save, "PDF"), "PDF document.*pdftoppm"),
    "zip": (zipped(), "archive; unpack"),
    "gzip": (gzip.compress(b"x"), "archive; unpack"),
    "DICOM": (bytes(128) + b"DICM\x02\0\0\0UL", "DICOM file.*pydicom"),
    "numpy": (saved(np.save, np.zeros((4, 4))), r"numpy\.load"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "file of data"),
    "metafile": (METAFILE, "picture of a kind that Pillow does not"),
    "JPEG XL": (b"\xff\x0a\xfa\x1f\x01", "JPEG XL picture.*djxl"),
    "JPEG XL in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(16), "JPEG XL picture"),
    "MRW": (b"\0MRM\0\x02\0\0" + bytes(64), "camera's raw picture"),
    "CR3": (container(b"crx "), "camera's raw picture"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(64), "camera's raw picture"),
    "damaged GIF": (b"GIF89a\0", "damaged, or of a variant"),
    "damaged HEIC": (container(b"heic"), "damaged HEIC picture; fetch"),
    "damaged AVIF": (container(b"avif"), "AVIF picture; (fetch|it is read by Pillow 11.3)"),
    "mp4": (container(b"isom"), "video.*ffmpeg"),
    "mkv": (b"\x1aE\xdf\xa3\x01\0\0\0", "video"),
    "mpg": (b"\0\0\x01\xb3\x10\x01\0" + bytes(64), "video"),
    "no width": (b"P6 0 0 255\n", "text file"),
    "unknown": (b"\x01\x02\x03" + bytes(range(99)), r"begins with b'\\x01\\x02"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_names_the_kind(tmp_path, kind):
    content, words = KINDS[kind]
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)cannot be read as an image: it .*{words}") as error:
        check_images([path])[0]
    assert str(error.value).count(path.name) == 1
    with pytest.raises(ValueError, match=rf"(?s){words}") as error:
        file_to_rgb(io.BytesIO(content), (0, 0, 0))
    assert "BytesIO" not in str(error.value)


def test_photoshop_files_are_read(tmp_path):
    head = b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x08\0\3"
    (tmp_path / "a.psd").write_bytes(head + bytes(12) + b"\0\0" + bytes([9] * 12))
    np.testing.assert_array_equal(check_images([tmp_path / "a.psd"])[0], np.full((2, 2, 3), 9))
