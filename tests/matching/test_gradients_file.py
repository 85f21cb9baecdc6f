"""The file of the statistics: what is kept, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sklgm.matching import RealGradients
from tests.matching.test_real_gradients import FEATURES, INDICES, C, D, assert_same, filled, make


@pytest.mark.parametrize(
    "settings",
    [
        {"class_counts": [4, 8, 12, 16], "backbone": "timm:x", "views": '{"a": [1, null]}'},
        {"classes": ["ant", "bee", "cät", "dog"], "class_weight": {"bee": 3.0}},
        {"class_weight": {np.int64(1): np.float32(0.5)}, "head_scale": 0.1 + 0.2},
    ],
)
def test_what_was_saved_goes_on_living(tmp_path, settings):
    """More rows, other shards, the same file."""
    file = tmp_path / "sums.safetensors"
    full = make(**settings)
    y = full.classes[INDICES]
    full.update(FEATURES, y).save(file)
    back = RealGradients.load(str(file))
    assert torch.equal(back.sums, full.sums)
    assert_same(back, full)
    assert torch.equal(back.heads.take(slice(None)), full.heads.take(slice(None)))
    assert_same(back.update(FEATURES, y), full.update(FEATURES, y))
    assert_same(back + full, full + full)
    back.save(file)
    assert_same(RealGradients.load(file), full)


def test_save_over_the_file_that_was_loaded(tmp_path):
    """The file may be mapped into memory while it is written."""
    file = tmp_path / "sums"
    wide = np.ones((3, 500), dtype=np.float32)
    full = make(head_pool_size=64).update(wide, [0, 1, 2])
    full.save(file)
    RealGradients.load(file).save(file)
    loaded = RealGradients.load(file)
    filled().save(file)
    assert torch.equal(loaded.sums, full.sums)


def change(file, **changes):
    """Write the file again with another header, or with another tensor."""
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["sklgm.RealGradients"])
        tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    tensors |= changes.pop("tensors", {})
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    metadata = {"sklgm.RealGradients": json.dumps(header | changes)}
    save_file(tensors, file, metadata=metadata)


def test_others_may_read_what_they_may_read_of_other_files(tmp_path):
    (tmp_path / "any file").touch()
    filled().save(tmp_path / "gradients")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_file_without_covariance_is_what_it_always_was(tmp_path):
    file = tmp_path / "sums"
    filled().save(file)
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["sklgm.RealGradients"])
        assert not {"class_feature_sum", "feature_product_sum"} & set(opened.keys())
    assert "store_covariance" not in header
    assert RealGradients.load(file).store_covariance is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensors": {"feature_product_sum": None}}, "damaged: 'feature_product_sum' is m"),
        ({"tensors": {"feature_product_sum": torch.zeros(1, D).double()}}, "is damaged: its feat"),
        ({"tensors": {"class_feature_sum": torch.zeros(C, D)}}, "is damaged: its class_feat"),
        ({"store_covariance": 3}, "is damaged: The 'store_covariance' parameter"),
    ],
)
def test_a_covariance_that_does_not_fit(tmp_path, changes, message):
    file = tmp_path / "sums"
    filled(store_covariance=True).save(file)
    change(file, **changes)
    with pytest.raises(ValueError, match=message):
        RealGradients.load(file)


OTHER = {"weight": torch.ones(3)}
NOT_OURS = "is not a file written by"
FOREIGN = "has format 2, but this version of sklgm reads format 1"
DAMAGED = "is damaged: its sums do not fit"
TOTALS = {"sums": None, "totals": torch.ones(2)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"these are no tensors" * 100), NOT_OURS),
        (lambda file: file.write_bytes(b""), NOT_OURS),
        (lambda file: file.write_bytes(file.read_bytes()[:-40]), NOT_OURS),
        (lambda file: file.write_bytes(file.read_bytes()[:30]), NOT_OURS),
        (lambda file: save_file(OTHER, file), NOT_OURS),
        (lambda file: save_file(OTHER, file, metadata={"format": "pt"}), NOT_OURS),
        (lambda file: change(file, tensors={"rows_seen": None}), "is damaged: 'rows_seen' is mis"),
        (lambda file: change(file, format=2, surprise=[1], tensors=TOTALS), FOREIGN),
        (lambda file: change(file, tensors={"sums": torch.zeros(5, C, D + 2)}), DAMAGED),
        (lambda file: change(file, classes=[1, 2]), DAMAGED),
    ],
)
def test_files_that_cannot_be_loaded(tmp_path, damage, message):
    file = tmp_path / "some file.safetensors"
    filled().save(file)
    damage(file)
    with pytest.raises(ValueError, match=rf"some file\.safetensors {message}"):
        RealGradients.load(file)


def test_stray_tensors_in_a_file_are_left_alone(tmp_path):
    file = tmp_path / "sums"
    filled().save(file)
    change(file, tensors={"classes": torch.zeros(2), "update": torch.zeros(1)})
    assert_same(RealGradients.load(file), filled())


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "gradients.safetensors"
    kept = RealGradients([0, 1]).update(np.eye(2, dtype=np.float32), [0, 1])
    kept.save(path)

    def half_written(name, tensors, metadata):
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("sklgm.matching.gradients_file.write_tensors", half_written)
    with pytest.raises(OSError, match="No space left"):
        kept.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert torch.equal(RealGradients.load(path).sums, kept.sums)
