"""Files that were written once, by this version or an older one, are read today."""

import json
import shutil
from pathlib import Path

import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors import safe_open
from safetensors.torch import save_file

from sklgm import PrototypeSet, RealGradients
from tests.golden import write

FOLDERS = sorted(
    folder for folder in Path(write.__file__).parent.iterdir() if folder.name.isdigit()
)
each_format = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_every_kind_of_file_is_there(tmp_path):
    write.write(tmp_path / "now")
    now = {path.name for path in (tmp_path / "now").iterdir()}
    assert {path.name for path in FOLDERS[-1].iterdir()} == now


@each_format
@pytest.mark.parametrize("name", write.prototype_sets())
def test_prototypes(folder, name):
    expected, loaded = write.prototype_sets()[name], PrototypeSet.load(folder / name)
    assert_array_equal(loaded.images, expected.images, strict=True)
    assert_array_equal(loaded.labels, expected.labels, strict=True)
    assert loaded.provenance == expected.provenance


@each_format
def test_gradients(folder):
    expected, loaded = write.gradients(), RealGradients.load(folder / "gradients.safetensors")
    assert loaded.settings.keys() == expected.settings.keys()
    # Which also has to have the heads of today.
    assert_allclose(loaded.sums, expected.sums, rtol=1e-5, atol=1e-6)
    # The first files hold no weights of rows, which were all 1.
    assert_allclose(loaded.feature_moments(), expected.feature_moments(), rtol=1e-6)
    both = loaded + expected
    assert_array_equal(both.rows_seen, [10, 10, 10])


def with_newer_card(folder):
    path = folder / "images" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    PrototypeSet.load(path.parent)


def with_newer_metadata(path, name):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    metadata[name] = json.dumps({**json.loads(metadata[name]), "format": 99})
    save_file(tensors, path, metadata)


def with_newer_gradients(folder):
    with_newer_metadata(folder / "gradients.safetensors", "sklgm.RealGradients")
    RealGradients.load(folder / "gradients.safetensors")


@pytest.mark.parametrize("read", [with_newer_card, with_newer_gradients])
def test_a_newer_format_is_refused(read, tmp_path):
    shutil.copytree(FOLDERS[-1], tmp_path / "files")
    with pytest.raises(ValueError, match="Update sklgm"):
        read(tmp_path / "files")
