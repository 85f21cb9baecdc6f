"""The file of a checkpoint: whole or not there, and read with care."""

import json
import os
import random
import struct
import time

import pytest
import torch

from sklgm.checkpoint.file import read_checkpoint, write_checkpoint

TENSORS = {
    "floats": torch.arange(12.0).reshape(3, 4) / 7,
    "wide": torch.tensor([1.5, -0.0, float("inf"), float("nan")], dtype=torch.float64),
    "bytes": torch.arange(200, dtype=torch.uint8),
    "counts": torch.tensor([2**62, -1]),
    "scalar": torch.tensor(3.0),
    "nothing": torch.zeros(0, 5),
}
HEADER = {"seeds": [1, 2], "deep": {"é": None, "b": [1.5, "x"]}}


@pytest.fixture
def path(tmp_path):
    write_checkpoint(tmp_path / "file", HEADER, TENSORS)
    return tmp_path / "file"


def raw(path):
    """Return the header of a safetensors file, and what follows it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_raw(path, header, rest):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def test_what_is_written_is_read(path):
    header, tensors = read_checkpoint(path)
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert tensor.shape == TENSORS[name].shape
        assert tensor.numpy().tobytes() == TENSORS[name].numpy().tobytes()
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_without_tensors(tmp_path):
    write_checkpoint(tmp_path / "file", HEADER, {})
    assert read_checkpoint(tmp_path / "file") == (HEADER, {})


def test_what_was_read_does_not_change_with_the_file(path):
    _, tensors = read_checkpoint(path)
    with path.open("rb+") as file:
        file.truncate(10)
    assert torch.equal(tensors["floats"], TENSORS["floats"])


def test_the_digest_is_of_everything(path, tmp_path):
    digest = write_checkpoint(path, HEADER, TENSORS)
    assert write_checkpoint(path, HEADER, TENSORS) == digest
    read_checkpoint(path, digest)
    others = [
        ({**HEADER, "seeds": [1, 3]}, TENSORS),
        (HEADER, {**TENSORS, "scalar": torch.tensor(3.5)}),
        (HEADER, {**TENSORS, "bytes": TENSORS["bytes"].view(torch.int8)}),
        (HEADER, {**TENSORS, "floats": TENSORS["floats"].reshape(4, 3)}),
        (HEADER, {**{k: v for k, v in TENSORS.items() if k != "scalar"}, "s": TENSORS["scalar"]}),
    ]
    digests = {write_checkpoint(tmp_path / "other", *other) for other in others}
    assert len(digests) == 5
    assert digest not in digests
    with pytest.raises(ValueError, match="is damaged: its checksum differs"):
        read_checkpoint(tmp_path / "other", digest)


def test_every_changed_byte_and_every_length_is_noticed(path):
    whole = path.read_bytes()
    rng = random.Random(0)
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=f"{path.name}' (is|has)"):
            read_checkpoint(path)
        path.write_bytes(whole[:place])
        with pytest.raises(ValueError, match="is no checkpoint of sklgm, or it is damaged"):
            read_checkpoint(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match="is no checkpoint of sklgm, or it is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("shape", [[10**12], [10**6, 10**6], [2**32, 2**32], [10**30]])
@pytest.mark.parametrize("honest", [False, True])
def test_a_header_that_claims_too_much_is_refused_at_once(path, shape, honest):
    """Nothing is allocated for what the file cannot hold."""
    header, rest = raw(path)
    end = 8
    for side in shape:
        end *= side
    claimed = [0, end] if honest else header["wide"]["data_offsets"]
    header["wide"] = {"dtype": "F64", "shape": shape, "data_offsets": claimed}
    write_raw(path, header, rest)
    start = time.monotonic()
    with pytest.raises(ValueError, match="is no checkpoint of sklgm, or it is damaged"):
        read_checkpoint(path)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("length", [2**63, 2**40, 10**9])
def test_a_header_longer_than_the_file_is_refused_at_once(path, length):
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    start = time.monotonic()
    with pytest.raises(ValueError, match="is no checkpoint of sklgm, or it is damaged"):
        read_checkpoint(path)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("version", [2, 99, "2"])
def test_a_newer_format_is_refused(path, version):
    header, rest = raw(path)
    text = json.dumps({**json.loads(header["__metadata__"]["sklgm.checkpoint"]), "format": version})
    header["__metadata__"] = {"sklgm.checkpoint": text}
    write_raw(path, header, rest)
    with pytest.raises(ValueError, match=r"has format .*, but this version .* 1\. Update sklgm"):
        read_checkpoint(path)


@pytest.mark.parametrize("text", ["[1]", "3", "null", "{", '{"seeds": 3}', "[" * 100_000])
def test_other_json_is_refused(path, text):
    header, rest = raw(path)
    header["__metadata__"]["sklgm.checkpoint"] = text
    write_raw(path, header, rest)
    with pytest.raises(ValueError, match="is no checkpoint of sklgm, or it is damaged"):
        read_checkpoint(path)


def test_a_pickle_is_refused_unread(tmp_path):
    torch.save(TENSORS, tmp_path / "file")
    with pytest.raises(ValueError, match="is no checkpoint of sklgm"):
        read_checkpoint(tmp_path / "file")


def test_a_failed_write_keeps_the_file_before(path, monkeypatch):
    whole = path.read_bytes()

    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"cannot be written: .*Input/output error\. The one before"):
        write_checkpoint(path, {}, {})
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_file_and_folder_are_synchronised_in_order(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, type(path).replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("sync"), fsync(number)))
    monkeypatch.setattr(
        type(path), "replace", lambda *args: (calls.append("rename"), replace(*args))
    )
    write_checkpoint(path, {}, {})
    assert calls == ["sync", "rename", "sync"]


def test_what_a_killed_write_left_is_cleared(tmp_path):
    left = tmp_path / "file.partial"
    left.mkdir()
    (left / ".tmpx").write_bytes(b"of the library")
    write_checkpoint(tmp_path / "file", {}, TENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
