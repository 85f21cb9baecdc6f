"""Prototypes on the Hugging Face Hub: published, loaded, and what is said when it fails."""

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from sklgm import PrototypeSet
from tests.hub import TOKEN, stand_in

NAME = "me/prototypes"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def images(seed=0, labels=("cat", "dog", "dog")):
    values = np.random.default_rng(seed).random((len(labels), 6, 6, 3))
    return PrototypeSet(values, list(labels), {"data": {"license": "cc-by-sa-4.0"}})


def assert_same(one, other):
    assert one.images.tobytes() == other.images.tobytes()
    assert one.labels.tolist() == other.labels.tolist()
    assert one.provenance == other.provenance


def test_what_is_published_is_what_is_saved(hub, tmp_path):
    commit = images().push_to_hub(NAME, private=True, commit_message="First set")
    assert commit.commit_url == f"{hub.url}/datasets/{NAME}/commit/{commit.oid}"
    assert hub.private[NAME]
    images().save(tmp_path / "saved")
    saved = {
        str(path.relative_to(tmp_path / "saved")): path.read_bytes()
        for path in (tmp_path / "saved").rglob("*")
        if path.is_file()
    }
    assert hub.files(NAME)[1] == saved | {".gitattributes": b"*.png binary\n"}


@pytest.mark.parametrize(
    "address", [f"hf://datasets/{NAME}", f"hf://{NAME}", Path(f"hf://datasets/{NAME}@main")]
)
def test_what_was_published_is_loaded_bit_by_bit(hub, address):
    images().push_to_hub(NAME)
    hub.asked.clear()
    assert_same(PrototypeSet.load(address), images())
    assert not [path for _, path in hub.asked if path.endswith((".png", "README.md"))]


def test_rows_are_published_too(hub):
    rows = PrototypeSet(np.eye(3), [True, False, True])
    rows.push_to_hub(NAME)
    assert_same(PrototypeSet.load(f"hf://{NAME}"), rows)


def test_a_new_set_replaces_the_old_one_which_its_commit_still_names(hub):
    first = images().push_to_hub(NAME)
    hub.files(NAME)[1]["notes.txt"] = b"kept"
    images(1, ["cat", "emu"]).push_to_hub(NAME)
    assert_same(PrototypeSet.load(f"hf://datasets/{NAME}"), images(1, ["cat", "emu"]))
    assert_same(PrototypeSet.load(f"hf://datasets/{NAME}@{first.oid}"), images())
    pictures = [name for name in hub.files(NAME)[1] if name.endswith(".png")]
    assert pictures == ["images/cat/0000.png", "images/emu/0001.png"]
    assert hub.files(NAME)[1]["notes.txt"] == b"kept"


def test_a_branch_of_its_own(hub):
    images().push_to_hub(NAME)
    images(1).push_to_hub(NAME, revision="seed-1")
    assert_same(PrototypeSet.load(f"hf://datasets/{NAME}@seed-1"), images(1))
    assert_same(PrototypeSet.load(f"hf://datasets/{NAME}"), images())


def test_it_loads_from_the_cache_without_a_network(hub, monkeypatch):
    images().push_to_hub(NAME)
    PrototypeSet.load(f"hf://datasets/{NAME}")
    hub.shutdown()
    hub.server_close()
    assert_same(PrototypeSet.load(f"hf://datasets/{NAME}"), images())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_same(PrototypeSet.load(f"hf://datasets/{NAME}"), images())


def test_the_card_is_where_the_hub_looks_for_it(hub):
    images().push_to_hub(NAME)
    files = hub.files(NAME)[1]
    assert b"license: cc-by-sa-4.0" in files["README.md"]
    assert json.loads(files["card.json"])["labels"]["values"] == ["cat", "dog", "dog"]


def test_who_is_not_logged_in_is_told_so(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(OSError, match="401"):
        images().push_to_hub(NAME)
    images().push_to_hub(NAME, token=TOKEN)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    with pytest.raises(OSError, match="logged in"):
        images().push_to_hub(NAME, token=True)


def test_a_cache_that_cannot_be_written_is_no_matter_of_the_network(hub, tmp_path, monkeypatch):
    images().push_to_hub(NAME)
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError):
        PrototypeSet.load(f"hf://datasets/{NAME}")


def test_no_network_is_told(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(OSError, match="check your internet connection"):
        PrototypeSet.load(f"hf://datasets/{NAME}")


def test_a_repository_of_something_else_is_not_touched(hub):
    images().push_to_hub(NAME)
    files = hub.files(NAME)[1]
    files["data.parquet"] = files.pop("card.json")
    before = dict(files)
    with pytest.raises(ValueError, match="holds something else than prototypes"):
        images().push_to_hub(NAME)
    assert hub.files(NAME)[1] == before
    with pytest.raises(ValueError, match="holds no saved prototypes: it has no card"):
        PrototypeSet.load(f"hf://datasets/{NAME}")


@pytest.mark.parametrize("name", ["me/nothing", f"{NAME}@no-branch"])
def test_what_is_not_there_is_told(hub, name):
    images().push_to_hub(NAME)
    with pytest.raises(OSError, match="Not Found for url"):
        PrototypeSet.load(f"hf://datasets/{name}")


@pytest.mark.parametrize("name", ["hf://datasets/alone", "hf://models/me/x/y"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="Names are 'hf://datasets/OWNER/NAME'"):
        PrototypeSet.load(name)
