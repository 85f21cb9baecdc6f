"""Weights as trainers leave them, under any name, and files that are something else."""

import argparse
import collections
import datetime
import enum
import functools
import gzip
import io
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sklgm.backbones import Backbone
from sklgm.backbones._state_dicts import find_state_dict
from tests.library_nets import add_tiny_clip, fill, own_cache, undrawn
from tests.tiny_backbones import TinyConvNet

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

with undrawn():
    NET = fill(timm.create_model("test_vit", num_classes=3))
    OTHER = fill(timm.create_model("test_vit", num_classes=3), seed=1)
STATE, STATE2 = NET.state_dict(), OTHER.state_dict()
NUMPY = {key: value.numpy() for key, value in STATE.items()}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    own_cache(monkeypatch)


def under(prefix, state=STATE):
    return {prefix + key: value for key, value in state.items()}


def within(state, name, block="blocks.0."):
    return {key.replace(block, f"{block}{name}."): value for key, value in state.items()}


def load(path, architecture="test_vit"):
    return Backbone.from_timm(architecture, checkpoint=path).module


def assert_is_the_net(found):
    wanted = {key: value for key, value in STATE.items() if not key.startswith("head.")}
    assert found.state_dict().keys() == wanted.keys()
    assert all(torch.equal(found.state_dict()[key], wanted[key]) for key in wanted)


def optimizer(net=NET):
    made = torch.optim.AdamW(net.parameters())
    for tensor in net.parameters():
        made.state[tensor] = {"step": torch.ones(()), "exp_avg": torch.ones_like(tensor)}
    return made.state_dict()


def averaged():
    return torch.optim.swa_utils.AveragedModel(NET).state_dict()


class Colour(enum.Enum):
    RED = 1


class Settings(dict):
    pass


HEAD = {"module.head.mlp.0.weight": torch.ones(2, 2), "module.head.last.weight_v": torch.ones(2)}
CENTRE = {"center": torch.ones(1, 9)}
LAYOUTS = {
    "Lightning": {"epoch": 1, "state_dict": under("model.") | {"criterion.weight": torch.ones(3)}},
    "Lightning, averaged": {"state_dict": under("model."), "current_model_state": under("model.")},
    "Lightning, two nets": {"state_dict": under("model.", STATE2) | under("ema_model.module.")},
    "mmpretrain": {"meta": {}, "state_dict": under("backbone.") | {"head.fc.bias": torch.ones(3)}},
    "tutorial": {"epoch": 1, "model_state_dict": STATE, "loss": torch.tensor(0.1)},
    "any name": {"best weights": STATE},
    "DINO, teacher": {"teacher": under("backbone.") | HEAD, "dino_loss": CENTRE},
    "MoCo": {
        "state_dict": under("module.encoder_q.")
        | under("module.encoder_k.", STATE2)
        | {"module.queue": torch.ones(3)}
    },
    "MAE": {"model": STATE, "optimizer": optimizer(), "scaler": {}, "args": argparse.Namespace()},
    "moments by name": {"model": STATE, "optimizer": {"exp_avg": STATE2, "exp_avg_sq": STATE2}},
    "torchvision": {"model": STATE2, "model_ema": averaged(), "args": argparse.Namespace(lr=1)},
    "EMA": {"model": STATE2, "ema": STATE},
    "AveragedModel": averaged(),
    "Composer": {"state": {"model": under("module."), "rng": [torch.ones(2)]}},
    "DeepSpeed": {"module": STATE, "optimizer": None, "buffer_names": []},
    "FSDP": under("_fsdp_wrapped_module.", within(STATE, "_fsdp_wrapped_module")),
    "compiled": torch.compile(NET).state_dict(),
    "compiled in part": within(STATE, "_orig_mod"),
    "parallel": nn.DataParallel(NET).state_dict(),
    "twice parallel": under("module.module."),
    "thop": STATE | {"total_ops": torch.zeros(1), "blocks.0.total_params": torch.zeros(1)},
    "half": {key: value.half().float() for key, value in STATE.items()},
    "NumPy": {"state_dict": STATE, "best": np.float64(0.9), "seen": np.arange(3)},
    "objects": {
        "state_dict": STATE,
        "when": datetime.datetime(2026, 1, 1),
        "where": Path("a/b"),
        "settings": Settings(inner=Settings(a=1)),
        "many": collections.defaultdict(list, a=[1]),
        "colour": Colour.RED,
        "loss": nn.CrossEntropyLoss(weight=torch.ones(3)),
        "arguments": argparse.Namespace(path=Path("x"), best=np.float32(1)),
        "hyper_parameters": {"optimizer": functools.partial(torch.optim.Adam, lr=1)},
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_trainers(layout, tmp_path):
    torch.save(LAYOUTS[layout], tmp_path / "net.pth")
    if layout == "half":
        assert load(tmp_path / "net.pth").norm.weight.dtype == torch.float32
    else:
        assert_is_the_net(load(tmp_path / "net.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_become_float32(dtype, tmp_path):
    torch.save({key: value.to(dtype) for key, value in STATE.items()}, tmp_path / "net.pth")
    weight = load(tmp_path / "net.pth").norm.weight
    assert torch.equal(weight, STATE["norm.weight"].to(dtype).float())
    assert weight.dtype == torch.float32


def test_the_old_format_of_torch(tmp_path):
    content = LAYOUTS["objects"] | {"best": np.float64(0.9), "loss": 0.5}
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert_is_the_net(load(tmp_path / "net.pth"))


def test_savers_of_timm(tmp_path):
    saver = timm.utils.CheckpointSaver(
        OTHER,
        torch.optim.AdamW(OTHER.parameters()),
        args=argparse.Namespace(model="test_vit"),
        model_ema=timm.utils.ModelEmaV3(NET),
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, 1.0)
    assert_is_the_net(load(tmp_path / "last.pth.tar"))


@pytest.mark.filterwarnings("ignore")
def test_lightning_itself(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):
        def __init__(self, options=None):
            super().__init__()
            self.save_hyperparameters()
            self.model = NET
            self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))

    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path
    )
    trainer.strategy.connect(Task(argparse.Namespace(path=tmp_path)))
    trainer.save_checkpoint(tmp_path / "net.ckpt")
    assert_is_the_net(load(tmp_path / "net.ckpt"))


@pytest.mark.parametrize(
    ("content", "names", "line"),
    [
        (
            {"student": under("module.backbone.") | HEAD, "teacher": under("backbone.")},
            ("student.module.backbone", "teacher.backbone"),
            "torch.save(torch.load(path)['student'], 'weights.pth')",
        ),
        (
            {"state_dict": under("online.") | under("target.")},
            ("state_dict.online", "state_dict.target"),
            "torch.load(path)['state_dict'].items() if k.startswith('online.')}, 'weights.pth')",
        ),
    ],
    ids=["dicts", "prefixes"],
)
def test_several_nets_ask_which(content, names, line, tmp_path):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=re.escape(line)) as caught:
        load(path)
    assert all(repr(name) in str(caught.value) for name in names)
    # The line does what it says.
    (line,) = re.findall(r"torch\.save\(.*'weights\.pth'\)", str(caught.value))
    line = line.replace("'weights.pth'", "tmp_path / 'weights.pth'")
    eval(line, {"torch": torch, "path": path, "tmp_path": tmp_path})
    assert_is_the_net(load(tmp_path / "weights.pth"))


def test_a_preferred_net_that_does_not_fit_is_not_replaced_by_another(tmp_path):
    broken = {key: value for key, value in STATE.items() if key != "norm.weight"}
    torch.save({"model": STATE2, "model_ema": broken}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"the file lacks norm\.weight"):
        load(tmp_path / "net.pth")


def test_errors_name_tensors_as_nets_do(tmp_path):
    """Without what the trainer put before them, and without its loss."""
    state = under("model.", timm.create_model("resnet10t").state_dict())
    torch.save({"state_dict": state | {"criterion.weight": torch.ones(3)}}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"file lacks .*cls_token.*net lacks .*conv1") as e:
        load(tmp_path / "net.pth")
    assert '"model.' not in str(e.value)
    assert "criterion" not in str(e.value)


def test_names_of_other_authors_are_left_to_the_library():
    """Nothing but what trainers put before the names is taken off, and by those of the net."""
    names = {f"layer{i}.weight": torch.ones(1) for i in range(4)}
    for content in (
        {"model": under("module.model.", names), "loss": torch.ones(1)},
        {"model": names, "optimizer": {"momentum": names}},
    ):
        assert find_state_dict(content, {"a", "b", "c"}).keys() == names.keys()
    beside = under("model.", names) | {"criterion.weight": torch.ones(1)}
    assert find_state_dict(beside, {"a", "b", "c"}).keys() == names.keys()
    # transformers' DINOv3 has such names itself.
    assert find_state_dict(beside, ()).keys() == beside.keys()
    visual = under("visual.", names)
    assert find_state_dict(visual, {"a", "b", "c"}).keys() == visual.keys()
    with pytest.raises(ValueError, match="several would do, 'a', 'b'"):
        find_state_dict({"a": names, "b": names}, ())


def test_open_clip_in_lightning(tmp_path, monkeypatch):
    add_tiny_clip(tmp_path, monkeypatch)
    model = fill(open_clip.create_model("tiny-quickgelu"))
    state = under("clip.", model.state_dict()) | {"loss.scale": torch.ones(1)}
    torch.save({"state_dict": state, "hyper_parameters": {"lr": np.float64(1)}}, tmp_path / "c.pt")
    found = Backbone.from_open_clip("tiny-quickgelu", checkpoint=tmp_path / "c.pt").module
    wanted = model.visual.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in found.state_dict().items())


def write_torch(path):
    torch.save(STATE, path)


def write_npz(path):
    with path.open("wb") as file:
        np.savez(file, **NUMPY)


@pytest.mark.parametrize("suffix", [".bin", ".pth", ".safetensors", ".npz", ".ckpt"])
@pytest.mark.parametrize("write", [lambda path: save_file(STATE, path), write_torch, write_npz])
def test_the_content_decides(write, suffix, tmp_path):
    write(tmp_path / f"model{suffix}")
    assert_is_the_net(load(tmp_path / f"model{suffix}"))


def in_zip(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


FILES = {
    "gzip": (gzip.compress(b"x"), "an archive; unpack it"),
    "page": (b"\n<!DOCTYPE html><html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer.*lfs pull"),
    "index": (b'{"metadata": {}, "weight_map": {}}', "JSON.*join those: `from safetensors.torch"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(16), "a picture; pass a file of weights"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
    "Keras 3": (in_zip("metadata.json", "model.weights.h5"), "a Keras model"),
    "zip": (in_zip("net/weights.pth"), "an archive; unpack it"),
    "pickle": (pickle.dumps(NUMPY), "a pickle that torch.save did not write"),
    "array": (b"\x93NUMPY\x01\x00", "one NumPy array.*np.savez"),
    "program": (in_zip("net/archive_format"), r"torch.export.load\(path\).state_dict"),
    "words": (b"404: Not found", "a text file"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("kind", FILES)
def test_other_files_are_named(kind, tmp_path):
    content, message = FILES[kind]
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"net\.pth cannot be read: it is .*{message}"):
        load(tmp_path / "net.pth")


@pytest.mark.filterwarnings("ignore")
def test_the_line_for_a_torchscript_program(tmp_path):
    path, new = tmp_path / "net.pt", tmp_path / "new.pt"
    net = timm.create_model("test_vit", num_classes=0, exportable=True)
    net.load_state_dict({key: STATE[key] for key in net.state_dict()})
    torch.jit.save(torch.jit.trace(net.eval(), torch.rand(1, 3, 160, 160)), path)
    with pytest.raises(ValueError, match="a TorchScript program") as caught:
        load(path)
    (line,) = re.findall(r"`(.*)`", str(caught.value))
    eval(line, {"torch": torch, "path": path, "new": new})
    assert_is_the_net(load(new))


def test_whole_nets_are_refused_by_their_classes(tmp_path):
    torch.save({"epoch": 1, "model": TinyConvNet()}, tmp_path / "net.pth")
    message = r"Python objects.*\(tests\.tiny_backbones\.TinyConvNet.*torch\.save\(net\.state_dict"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "net.pth")
