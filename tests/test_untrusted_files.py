"""Files of strangers: no code is run, no path escapes, no memory is taken for mere claims.

The same for checkpoints of backbones in three libraries is in ``backbones/test_checkpoints.py``.
"""

import contextlib
import json
import os
import pickle
import struct
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from sklgm import Backbone, BackboneEmbedder, LGMDistiller, PrototypeSet, RandomHeads, RealGradients
from sklgm.cli.app import app
from sklgm.datasets import load_folder, load_waterbirds, make_spurious_images
from sklgm.prototypes.nets import nets_of
from sklgm.report import HTMLReport
from sklgm.report._folders import _read_groups
from tests.image_checks import save_images, toy_images
from tests.library_nets import TINY_CLIP, own_cache
from tests.tiny_backbones import tiny_backbone

resource = pytest.importorskip("resource")  # which Windows has not
# Before the clock runs.
timm = pytest.importorskip("timm")
pytest.importorskip("open_clip")

X, Y = toy_images()
NET = tiny_backbone()
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    own_cache(monkeypatch)


def distiller(**params):
    return LGMDistiller(
        NET, max_iter=2, heads=RandomHeads(pool_size=4), n_views=1, random_state=0, **params
    )


def prototypes(folder, provenance=None, labels=("cat", "dog")):
    images = np.random.default_rng(0).random((len(labels), 6, 6, 3), dtype=np.float32)
    PrototypeSet(images, list(labels), provenance or {}).save(folder)
    return folder


def gradients(path):
    rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    RealGradients([0, 1], head_pool_size=3).update(rows, [0, 1] * 3).save(path)
    return path


def waterbirds(folder, name="a.png", header="img_id,img_filename,y,split,place,place_filename"):
    folder.mkdir(exist_ok=True)
    (folder / "metadata.csv").write_text(f"{header}\n1,{name},0,0,0,x\n")
    return folder


def raw(path):
    """Return the header of a safetensors file, and what follows it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_raw(path, header, rest=b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def most_memory():
    """Return the bytes that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def refused(message, *, kind=ValueError):
    """Assert that what follows is one clear error, with little memory."""
    before = most_memory()
    with pytest.raises(kind, match=f"(?s){message}") as caught:
        yield caught
    assert most_memory() - before < 2**26


# What reads a file, and how it is called there. Each takes the path of a file to read.


def read_weights(path):
    return Backbone.from_name("timm:test_vit", checkpoint=path).module


def read_named_weights(path):
    return Backbone.from_name(f"timm:test_vit@{path}").module


def read_clip(path):
    return Backbone.from_name("open_clip:RN50", checkpoint=path).module


def read_card(path):
    prototypes(path.parent / "set", labels=("a", "b"))
    path.replace(path.parent / "set" / "card.json")
    return PrototypeSet.load(path.parent / "set")


def read_prototypes(path):
    prototypes(path.parent / "set", labels=("a", "b"))
    path.replace(path.parent / "set" / "prototypes.safetensors")
    return PrototypeSet.load(path.parent / "set")


def read_table(path):
    waterbirds(path.parent / "birds")
    path.replace(path.parent / "birds" / "metadata.csv")
    return load_waterbirds(path.parent / "birds")


def read_image(path):
    return BackboneEmbedder(NET).fit_transform([path])


def read_image_in_fit(path):
    paths = save_images(X, path.parent)
    return distiller().fit([*paths[:-1], path], Y)


READERS = {
    "weights": (read_weights, "w.pth"),
    "weights, .pt": (read_weights, "w.pt"),
    "weights, .bin": (read_weights, "w.bin"),
    "weights, .npz": (read_weights, "w.npz"),
    "weights, .safetensors": (read_weights, "w.safetensors"),
    "NAME@FILE": (read_named_weights, "w.pth"),
    "open_clip": (read_clip, "w.pt"),
    "gradients": (RealGradients.load, "g.safetensors"),
    "card": (read_card, "card"),
    "prototypes": (read_prototypes, "tensors"),
    "metadata.csv": (read_table, "table"),
    "groups": (_read_groups, "groups.csv"),
    "image": (read_image, "a.png"),
    "image in fit": (read_image_in_fit, "a.png"),
}
each_reader = pytest.mark.parametrize("reader", READERS)


class Payload:
    """What a pickle can do to whoever loads it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def as_pickle(path, target):
    path.write_bytes(pickle.dumps({"state_dict": Payload(target)}))


def as_torch(path, target):
    torch.save({"weight": torch.ones(2), "extra": Payload(target)}, path)


def as_numpy(path, target):
    with path.open("wb") as file:
        np.savez(file, weight=np.array([Payload(target)], dtype=object))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("write", [as_pickle, as_torch, as_numpy])
@each_reader
def test_no_pickle_is_opened(reader, write, tmp_path):
    target = tmp_path / "touched"
    read, name = READERS[reader]
    write(tmp_path / name, target)
    with pytest.raises(ValueError, match=r"."):
        read(tmp_path / name)
    assert not target.exists()


def test_the_payload_works(tmp_path):
    """Or the test above would show nothing."""
    as_pickle(tmp_path / "file", tmp_path / "touched")
    pickle.loads((tmp_path / "file").read_bytes())
    assert (tmp_path / "touched").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_at_a_plain_address_are_no_exception(tmp_path, monkeypatch):
    """timm reads what it fetched from there once more, with code, where the safe way fails."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    url = timm.get_pretrained_cfg("legacy_seresnet18.in1k").url
    path = tmp_path / "hub" / "checkpoints" / Path(url).name
    # A state that the safe way does not know, a TypeError, before the payload.
    head = b"\x80\x02]ccollections\nOrderedDict\n)RN}\x86ba"
    payload = pickle.dumps(Payload(tmp_path / "touched"), protocol=2)[2:-1]
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(path, "w") as evil,
    ):
        for entry in plain.infolist():
            content = plain.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = head + payload + b"0."
            evil.writestr(entry.filename, content)
    with pytest.raises(ValueError, match="cannot be read"):
        _ = Backbone.from_name("timm:legacy_seresnet18.in1k").module
    assert not (tmp_path / "touched").exists()


def test_postscript_is_not_run(tmp_path, monkeypatch):
    def run(*args, **kwargs):
        raise AssertionError("Ghostscript was asked to run a file")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.eps"):
        Image.fromarray(X[0]).save(folder / name, "EPS")
    with refused(r"a\.png cannot be read as an image: PostScript is a program.*convert"):
        read_image(folder / "a.png")
    with Image.open(folder / "a.png") as opened:
        with refused(r"X\[0\] cannot be read .*PostScript"):
            BackboneEmbedder(NET).fit_transform([opened])
        with refused(r"a\[0\] has no transparency"):
            make_spurious_images({"a": [opened], "b": [opened]}, n_samples=2)
    with pytest.warns(UserWarning, match=r"1 of 2 image files .* were left out: 1 \.eps"):
        data = load_folder(tmp_path / "data")
    assert [Path(path).name for path in data.paths] == ["a.png"]


def timm_folder(folder, architecture="test_vit", **config):
    folder.mkdir()
    content = {"architecture": architecture, "pretrained_cfg": {}, **config}
    (folder / "config.json").write_text(json.dumps(content))
    save_file({"x": torch.ones(1)}, folder / "model.safetensors")


def clip_folder(folder, *, tower=(), **config):
    folder.mkdir()
    vision = {**TINY_CLIP["vision_cfg"], **dict(tower)}
    content = {"model_cfg": {**TINY_CLIP, "vision_cfg": vision, **config}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file({"x": torch.ones(1)}, folder / "open_clip_model.safetensors")


CONFIGS = {
    "timm: no pixels": (timm_folder, {"pretrained_cfg": {"input_size": [3, "x"]}}, "no net that"),
    "timm: unknown": (timm_folder, {"architecture": "no_such_net"}, "Unknown model"),
    "timm: argument": (timm_folder, {"model_args": {"checkpoint_path": "x"}}, "describes no net"),
    "timm: a list": (timm_folder, {"architecture": ["x"]}, "describes no net that timm can make"),
    "clip: nothing": (clip_folder, {"vision_cfg": {}}, "KeyError: 'image_size'"),
    "clip: elsewhere": (
        clip_folder,
        {"tower": {"timm_model_name": "hf-hub:someone/net"}},
        "timm_model_name 'hf-hub:someone/net' is no name of",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_folders_that_describe_no_net(case, tmp_path):
    write, config, message = CONFIGS[case]
    write(tmp_path / "net", **config)
    with refused(message):
        _ = Backbone.from_name(f"local-dir:{tmp_path / 'net'}").module


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"architecture"', DEEP, '{"model_type": 1}'])
@pytest.mark.parametrize("name", ["config.json", "open_clip_config.json"])
def test_folders_with_other_json(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with refused("is no folder of timm or open_clip", kind=FileNotFoundError):
        Backbone.from_name(f"local-dir:{tmp_path}")


def edit_gradients(path, **changes):
    """Change the header, the JSON in it and types of tensors."""
    header, rest = raw(path)
    text = header["__metadata__"]["sklgm.RealGradients"]
    content = {**json.loads(text), **changes}
    header["__metadata__"]["sklgm.RealGradients"] = json.dumps(content)
    write_raw(path, header, rest)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_pool_size": 10**12}, "its sums do not fit its header"),
        ({"head_pool_size": -1}, "its sums do not fit its header"),
        ({"head_pool_size": "3"}, "its sums do not fit its header"),
        ({"classes": 3}, "."),
        ({"classes": ["a", "a"]}, "classes must hold"),
        ({"classes": [[1], [2]]}, "classes must"),
        ({"class_weight": [1]}, "."),
        ({"class_weight": "heavy"}, "'class_weight' parameter"),
        ({"class_counts": [1, 2, 3]}, "class_counts must"),
        ({"class_counts": [10**30, 1]}, "."),
        ({"head_scale": -1}, "'head_scale' parameter"),
        ({"head_seed": -1}, "'head_seed' parameter"),
        ({"backbone": ["../x"]}, "'backbone' parameter"),
        ({"surprise": 1}, ".*unexpected keyword"),
    ],
)
def test_gradients_with_another_header(changes, message, tmp_path):
    path = gradients(tmp_path / "g")
    edit_gradients(path, **changes)
    with refused(rf"{path.name} is damaged: .*{message}"):
        RealGradients.load(path)


@pytest.mark.parametrize("text", [DEEP, "[1]", "3", "null", "{}"])
def test_gradients_with_other_json(text, tmp_path):
    path = gradients(tmp_path / "g")
    header, rest = raw(path)
    header["__metadata__"]["sklgm.RealGradients"] = text
    write_raw(path, header, rest)
    with refused("is not a file written by RealGradients.save"):
        RealGradients.load(path)


def test_gradients_of_another_type(tmp_path):
    path = gradients(tmp_path / "g")
    header, rest = raw(path)
    header["sums"]["dtype"] = "I32"
    write_raw(path, header, rest)
    with refused("g is damaged: its sums do not fit its header"):
        RealGradients.load(path)


@pytest.mark.parametrize("crossed", [{"feature_sum": 2**20}, {"sums": 2**20}, {"image_sum": 0}])
def test_gradients_that_only_together_claim_too_much(crossed, tmp_path):
    """Each of the tensors is there, but not what would be made of several of them."""
    path = gradients(tmp_path / "g")
    header, _ = raw(path)
    metadata = header["__metadata__"]
    tensors = RealGradients.load(path).tensors()
    for name, size in crossed.items():
        tensors[name] = torch.zeros(size, *tensors[name].shape[1:], dtype=tensors[name].dtype)
    content = json.loads(metadata["sklgm.RealGradients"])
    content["head_pool_size"] = len(tensors["sums"])
    metadata["sklgm.RealGradients"] = json.dumps(content)
    if "sums" in crossed:
        tensors["sums"] = tensors["sums"][..., :1].contiguous()
        tensors["feature_sum"] = torch.zeros(2**20, dtype=torch.float64)
    save_file(tensors, path, metadata)
    with refused("do not fit its header"):
        RealGradients.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"dtype": "U1000000000", "values": ["a", "b"]}}, "cannot be read"),
        ({"labels": {"dtype": "V9", "values": ["a", "b"]}}, "of type 'V9'"),
        ({"labels": {"dtype": ["x"], "values": ["a", "b"]}}, "cannot be read"),
        ({"labels": {"dtype": "int64", "values": 7}}, "1d array"),
        ({"labels": {"dtype": "int64", "values": [10**30, 1]}}, "cannot be read"),
        ({"provenance": ["x"]}, "provenance must be a dict"),
    ],
)
def test_cards_with_other_content(changes, message, tmp_path):
    folder = prototypes(tmp_path / "set")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **changes}))
    with refused(message):
        PrototypeSet.load(folder)


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000])
def test_json_without_end(text, tmp_path):
    folder = prototypes(tmp_path / "set")
    (folder / "card.json").write_text(text)
    with refused(r"card\.json' is damaged or unreadable"):
        PrototypeSet.load(folder)


# Names


EVIL_NAMES = ["../x", "../../x", "/etc/x", "a\0b", "CON", "", ".", "..", "~", "a/../../x", "\\\\x"]


def test_labels_do_not_lead_out_of_the_folder(tmp_path):
    before = sorted(tmp_path.parent.iterdir())
    folder = prototypes(tmp_path / "set", labels=EVIL_NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert sorted(tmp_path.parent.iterdir()) == before
    assert len(list((folder / "images").iterdir())) == len(EVIL_NAMES)
    assert PrototypeSet.load(folder).labels.tolist() == EVIL_NAMES


@pytest.mark.parametrize(
    "name", ["../secret.png", "{outside}", "a\0b", "", ".", "link.png", "links/secret.png", "ring"]
)
def test_tables_name_files_of_their_folder_only(name, tmp_path):
    secret = tmp_path / "secret.png"
    Image.fromarray(X[0]).save(secret)
    folder = waterbirds(tmp_path / "birds", name.format(outside=secret))
    (folder / "link.png").symlink_to(secret)
    (folder / "links").symlink_to(tmp_path)
    (folder / "ring").symlink_to(folder / "ring")
    with refused(r"line 2: img_filename must name a file in|Line 2 of .* must give|embedded null"):
        load_waterbirds(folder)
    Image.fromarray(X[0]).save(folder / "a.png")
    (folder / "inner.png").symlink_to(folder / "a.png")
    (tmp_path / "elsewhere").symlink_to(folder)
    for kept in ("a.png", "sub/../a.png", "inner.png"):
        (folder / "sub").mkdir(exist_ok=True)
        waterbirds(folder, kept)
        assert len(load_waterbirds(tmp_path / "elsewhere").paths) == 1


@pytest.mark.parametrize("reader", ["metadata.csv", "groups"])
@pytest.mark.parametrize("line", [b"\xff,0,0,0", b"x" * 200_000 + b",0,0,0"])
def test_tables_that_are_no_text(reader, line, tmp_path):
    read, name = READERS[reader]
    (tmp_path / name).write_bytes(b"img_filename,y,split,place,path,group\n" + line)
    with refused("is no CSV file"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a\0b", ""])
def test_groups_of_no_file(name, tmp_path):
    (tmp_path / "groups.csv").write_text(f"path,group\n{name},a\n")
    with refused("embedded null|Line 2 of .* must give path and group"):
        _read_groups(tmp_path / "groups.csv")


@pytest.mark.parametrize(
    "backbone",
    [
        "hf-hub:someone/net",
        "local-dir:/tmp/net",
        "timm:test_vit@/tmp/w.pth",
        ["clip", "clip@x"],
        "Backbone('net#0123456789ab', image_size=16)",
        "clip@\x1b[31m" + "x" * 3000,
    ],
)
def test_a_report_opens_no_weights_that_a_card_names(backbone, tmp_path):
    saved = PrototypeSet.load(
        prototypes(tmp_path / "set", {"parameters": {"backbone": backbone, "image_size": 10**9}})
    )
    with refused("are only loaded when asked for: name the net with --backbone") as caught:
        nets_of(saved, (), None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert list(nets_of(saved, ("dinov2",), None)) == ["dinov2"]


@pytest.mark.parametrize("place", ["hf-hub:someone/net", "local-dir:{folder}/x", "local-dir:"])
@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_names_in_a_library_are_no_places(library, place, tmp_path):
    clip_folder(tmp_path / "net")
    with refused("Unknown backbone"):
        Backbone.from_name(f"{library}:{place.format(folder=tmp_path / 'net')}")


def test_a_report_takes_no_size_from_a_card_that_its_images_lack(tmp_path):
    provenance = {"parameters": {"backbone": "efficientnet_lite0", "image_size": 10**9}}
    saved = PrototypeSet.load(prototypes(tmp_path / "set", provenance))
    (net,) = nets_of(saved, (), None).values()
    assert net.image_size < 1000


@pytest.mark.parametrize("parameters", [3, ["x"], None, {"backbone": 3}, {"backbone": [[]]}])
def test_a_report_on_other_provenance(parameters, tmp_path):
    saved = PrototypeSet.load(prototypes(tmp_path / "set", {"parameters": parameters}))
    with refused("do not tell which net they were made on. Name one"):
        nets_of(saved, (), None)


def test_a_page_escapes_what_a_card_says(tmp_path):
    evil = "<script>alert(1)</script>"
    saved = prototypes(
        tmp_path / "set",
        {evil: evil, "parameters": {evil: [evil]}, "versions": evil},
        labels=(evil, "b"),
    )
    page = HTMLReport.from_prototypes(PrototypeSet.load(saved), title=evil).html
    assert "<script" not in page
    assert "&lt;script" in page


# Kinds of files, and of images


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("make", [pipe, device, folder])
@each_reader
def test_what_is_no_file_is_not_waited_for(reader, make, tmp_path):
    read, name = READERS[reader]
    make(tmp_path / name)
    caught = []

    def run():
        try:
            read(tmp_path / name)
        except (ValueError, OSError) as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(caught) == 1
    assert str(caught[0])


def test_links_of_images_are_followed(tmp_path):
    """Caches of hubs are made of them; what they lead to must be an image all the same."""
    Image.fromarray(X[0]).save(tmp_path / "blob", "PNG")
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "0.png").symlink_to(tmp_path / "blob")
    assert read_image(load_folder(tmp_path / "data").paths[0]).shape == (1, 16)


def test_the_command_says_so_in_one_line(tmp_path):
    folder = prototypes(tmp_path / "set")
    (folder / "card.json").write_text(DEEP)
    result = CliRunner().invoke(app, ["report", str(folder), "--train", str(tmp_path)])
    assert result.exit_code == 1
    assert "card.json' is damaged or unreadable" in result.stderr
    assert "Traceback" not in result.output
