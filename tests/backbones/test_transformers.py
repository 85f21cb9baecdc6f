"""Vision models of transformers: what the library itself computes, on random weights."""

import json
import pickle
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from sklgm import FrozenBackboneProbe, LGMDistiller
from sklgm.backbones import Backbone, WeightsNotFoundError, _transformers, _weights
from tests.library_nets import fill, own_cache

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
VIT |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 50}
TEXT |= {"num_attention_heads": 2, "projection_dim": 12}
TEXT |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
CONV = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
MAE = {f"decoder_{key}": 8 for key in ("hidden_size", "intermediate_size")}
MAE |= {f"decoder_num_{key}": 1 for key in ("hidden_layers", "attention_heads")}
SQUARE = {"size": {"height": 32, "width": 32}}
CROP = {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}}
# What is saved, how its processor is made, and what of the output its authors probe.
KINDS = {
    "ViT": ("ForImageClassification", VIT, "ViT", SQUARE, "token"),
    "ViTMAE": ("ForPreTraining", VIT | MAE, "ViT", SQUARE, "token"),
    "Dinov2": ("Model", VIT, "Bit", CROP, "token"),
    "Dinov2WithRegisters": ("Model", VIT | {"num_register_tokens": 3}, "Bit", CROP, "token"),
    "DINOv3ViT": ("Model", VIT | {"num_register_tokens": 3}, "DINOv3ViT", SQUARE, "token"),
    "CLIP": (
        *("Model", {"projection_dim": 12, "vision_config": VIT, "text_config": TEXT}, "CLIP"),
        *(CROP, "projection"),
    ),
    "Siglip": ("Model", {"vision_config": VIT, "text_config": TEXT}, "Siglip", SQUARE, "pooler"),
    "ConvNext": (
        *("ForImageClassification", CONV, "ConvNext", {"size": {"shortest_edge": 32}}, "pooler"),
    ),
    "Swin": (
        "Model",
        {"image_size": 32, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        *("ViT", SQUARE, "pooler"),
    ),
}
KINDS = {kind: values for kind, values in KINDS.items() if hasattr(transformers, f"{kind}Config")}


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    own_cache(monkeypatch)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in ((75, 121, 3), (50, 41, 3))]


def make(kind, **more):
    head, options, *_ = KINDS[kind]
    config = getattr(transformers, f"{kind}Config")(**options | more)
    with torch.random.fork_rng(devices=[]):
        return fill(getattr(transformers, f"{kind}{head}")(config)).eval()


def save(kind, folder, **options):
    """Write a model and its image processor, as their authors publish them."""
    model = make(kind)
    model.save_pretrained(folder, **options)
    _, _, name, settings, _ = KINDS[kind]
    processor = getattr(transformers, f"{name}ImageProcessor")(**settings)
    processor.save_pretrained(folder)
    return model


def embed(kind, model, pixels, **options):
    """Return what the library has for the feature that the authors probe."""
    if kind == "CLIP":
        found = model.get_image_features(pixels, **options)
        return getattr(found, "pooler_output", found)  # transformers 5
    if kind == "Siglip":
        return model.vision_model(pixels, **options).pooler_output
    base = (
        model if type(model).__name__.endswith("Model") else getattr(model, model.base_model_prefix)
    )
    if kind == "ViTMAE":
        base.config.mask_ratio = 0.0
        options["noise"] = torch.arange(pixels.shape[-1] ** 2 / 64).expand(len(pixels), -1)
    found = base(pixels, **options)
    if KINDS[kind][-1] == "token":
        return found.last_hidden_state[:, 0]
    return found.pooler_output.flatten(1)


def prepare(folder, pictures):
    is_old = transformers.__version__.startswith("4.")
    pil = {"use_fast": False} if is_old else {"backend": "pil"}
    processor = transformers.AutoImageProcessor.from_pretrained(folder, **pil)
    return torch.cat([processor(images=p, return_tensors="pt")["pixel_values"] for p in pictures])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers(kind, tmp_path, pictures):
    model = save(kind, tmp_path)
    backbone = Backbone.from_name(f"transformers:{tmp_path}")
    assert (backbone.image_size, backbone.spec.pooling) == (32, KINDS[kind][-1])
    wanted = prepare(tmp_path, [Image.fromarray(picture) for picture in pictures])
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (backbone.spec.mean, backbone.spec.std))
    pixels = backbone.prepare(pictures).requires_grad_()
    # DINOv3's processor resizes floats: nothing is rounded or clipped.
    near = 0.02 if kind == "DINOv3ViT" else 1e-6
    assert ((pixels - mean) / std - wanted).abs().max() <= near
    found = backbone.features(pixels)
    again = pixels.detach().clone().requires_grad_()
    features = embed(kind, model, (again - mean) / std)
    assert found.shape == (2, backbone.n_features)
    torch.testing.assert_close(found, features, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(z.square().sum(), x)[0] for z, x in
                 ((found, pixels), (features, again))]  # fmt: skip
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    assert gradients[1].abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["ViT", "ViTMAE", "Dinov2", "CLIP", "Siglip", "ConvNext", "Swin"])
def test_another_size(kind, tmp_path, pictures):
    """Position embeddings are interpolated by the library; all sizes share one net."""
    model = save(kind, tmp_path)
    backbone = Backbone.from_transformers(tmp_path, image_size=48)
    pixels = backbone.prepare(pictures)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (backbone.spec.mean, backbone.spec.std))
    takes = kind not in ("Dinov2", "ConvNext")  # those always do
    options = {"interpolate_pos_encoding": True} if takes else {}
    with torch.no_grad():
        wanted = embed(kind, model, (pixels - mean) / std, **options)
        torch.testing.assert_close(backbone.features(pixels), wanted, atol=1e-5, rtol=1e-5)
    assert backbone.module is backbone.with_image_size(32).module
    if kind != "ConvNext":
        with pytest.raises(ValueError, match="multiple of the patch size"):
            Backbone.from_transformers(tmp_path, image_size=42 + 1)


def test_poolings(tmp_path, pictures):
    model = save("CLIP", tmp_path)
    found, pixels = {}, None
    for pooling in ("token", "avg", "token+avg", "pooler", "projection"):
        backbone = Backbone.from_transformers(tmp_path, pooling=pooling)
        pixels = backbone.prepare(pictures)
        found[pooling] = backbone.features(pixels)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (backbone.spec.mean, backbone.spec.std))
    assert backbone is Backbone.from_transformers(tmp_path)
    assert not any("text" in key for key in backbone.module.state_dict())
    output = model.vision_model((pixels - mean) / std)
    tokens = output.last_hidden_state
    wanted = {"token": tokens[:, 0], "avg": tokens[:, 1:].mean(1), "pooler": output.pooler_output}
    wanted["token+avg"] = torch.cat([wanted["token"], wanted["avg"]], 1)
    wanted["projection"] = model.visual_projection(output.pooler_output)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    named = Backbone.from_name(f"transformers:{tmp_path}?pooling=avg")
    assert named is Backbone.from_transformers(tmp_path, pooling="avg")
    assert named.name.endswith("?pooling=avg")
    with pytest.raises(ValueError, match="must be one of token, avg"):
        Backbone.from_transformers(tmp_path, pooling="mean")
    with pytest.raises(ValueError, match="model_kwargs are for nets of timm"):
        Backbone.from_name(f"transformers:{tmp_path}", model_kwargs={"depth": 2})


def test_the_mean_of_patches_leaves_registers_out(tmp_path):
    model = save("Dinov2WithRegisters", tmp_path)
    backbone = Backbone.from_transformers(tmp_path, pooling="avg", mean=0.0, std=1.0)
    pixels = torch.rand(2, 3, 32, 32)
    wanted = model(pixels).last_hidden_state[:, 4:].mean(1)
    torch.testing.assert_close(backbone.features(pixels), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ViT", "ViTMAE", "CLIP", "Siglip", "Dinov2"])
def test_a_loaded_model(kind, tmp_path, pictures):
    save(kind, tmp_path)
    named = Backbone.from_transformers(tmp_path)
    wanted = named.features(named.prepare(pictures))
    model = getattr(transformers, f"{kind}{KINDS[kind][0]}").from_pretrained(tmp_path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    given = [Backbone.from_transformers(model) for _ in range(2)]
    assert torch.equal(given[0].prepare(pictures), named.prepare(pictures))
    features = given[0].features(given[0].prepare(pictures))
    torch.testing.assert_close(features, wanted, atol=1e-6, rtol=1e-6)
    assert given[0].fingerprint() == given[1].fingerprint() != named.fingerprint()
    copied = pickle.loads(pickle.dumps(given[0]))
    np.testing.assert_array_equal(copied.resize(pictures[0]), named.resize(pictures[0]))
    assert copied.fingerprint() == given[0].fingerprint()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    other = Backbone.from_transformers(model, pooling="avg")
    assert other.fingerprint() != given[0].fingerprint()


def test_a_loaded_model_and_its_processor():
    model = make("ViT")
    with pytest.raises(ValueError, match=r"processor=AutoImageProcessor.from_pretrained"):
        Backbone.from_transformers(model)
    settings = {"size": {"height": 24, "width": 24}, "image_mean": [0.1] * 3, "resample": 3}
    processor = transformers.ViTImageProcessor(**settings)
    backbone = Backbone.from_transformers(model, processor=processor, name="mine", image_size=32)
    assert (backbone.name, backbone.image_size, backbone.spec.mean[0]) == ("mine", 32, 0.1)
    assert backbone.spec.interpolation == "bicubic"
    with pytest.raises(ValueError, match="or such a model itself; got Linear"):
        Backbone.from_transformers(torch.nn.Linear(2, 2))


def test_a_crop_and_a_filter_of_ones_own(tmp_path, pictures):
    """By name and of a loaded model alike, in place of the processor's."""
    model, asked = save("Dinov2", tmp_path), {"crop_pct": 0.5, "interpolation": "bilinear"}
    processor = transformers.BitImageProcessor(**CROP)
    resized = Image.fromarray(pictures[0]).resize((103, 64), Image.Resampling.BILINEAR)
    for backbone in (
        Backbone.from_transformers(tmp_path, **asked),
        Backbone.from_transformers(model, processor=processor, **asked),
    ):
        assert backbone.canvas_size == 64
        np.testing.assert_array_equal(
            backbone.resize(pictures[0]), np.asarray(resized)[16:48, 35:67]
        )
    with pytest.raises(ValueError, match="image_size == 0"):
        Backbone.from_transformers(model, processor=processor, image_size=0)


def test_pickles_hold_no_weights_and_load_none(tmp_path):
    save("ViT", tmp_path / "net")
    backbone = Backbone.from_transformers(tmp_path / "net")
    parcel, wanted = pickle.dumps(backbone), backbone.features(torch.ones(1, 3, 32, 32))
    assert len(parcel) < 2000
    assert pickle.loads(parcel) is backbone
    (tmp_path / "net").rename(tmp_path / "elsewhere")
    moved = Backbone.from_transformers(tmp_path / "elsewhere")
    assert (moved.name, moved.fingerprint()) == (backbone.name, backbone.fingerprint())
    assert torch.equal(moved.features(torch.ones(1, 3, 32, 32)), wanted)
    path = tmp_path / "elsewhere" / "config.json"
    path.write_text(path.read_text().replace("gelu", "relu"))
    with pytest.raises(ValueError, match="holds other weights than"):
        _weights.find_weights(moved.spec)


def test_files_in_parts_and_pickles_of_tensors(tmp_path):
    model = save("ViT", tmp_path / "parts", max_shard_size="20KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    save("ViT", tmp_path / "bin")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    pixels = torch.rand(2, 3, 32, 32)
    found = [Backbone.from_transformers(tmp_path / name) for name in ("parts", "bin")]
    torch.testing.assert_close(*(backbone.features(pixels) for backbone in found))
    next((tmp_path / "parts").glob("*-of-*")).unlink()
    with pytest.raises(FileNotFoundError, match="There is no file"):
        Backbone.from_transformers(tmp_path / "parts")


def test_reports_of_transformers_are_as_before_when_threads_load_at_once():
    logging, leave, entered = transformers.utils.logging, threading.Event(), threading.Event()
    level = logging.get_verbosity()

    def load():
        with _transformers._quiet():
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=load)
    with _transformers._quiet():
        thread.start()
        entered.wait(0.1)
    leave.set()
    thread.join()
    assert logging.get_verbosity() == level


def test_weights_that_do_not_serve(tmp_path):
    save("ViT", tmp_path)
    message = r"2 tensors are missing, (vit\.)?pooler.*Another pooling"
    with pytest.raises(ValueError, match=message):
        _ = Backbone.from_transformers(tmp_path, pooling="pooler").module
    config = tmp_path / "config.json"
    two = config.read_text()
    config.write_text(two.replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))
    with pytest.raises(ValueError, match=r"more layers than the model"):
        _ = Backbone.from_transformers(tmp_path).module
    config.write_text(two)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"key": np.array([object()])}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read, or do not fit ViTModel"):
        _ = Backbone.from_transformers(tmp_path).module
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds none of the files model.safetensors"):
        Backbone.from_transformers(tmp_path)


def test_untrained_without_weights(tmp_path):
    state = torch.get_rng_state()
    save("Dinov2", tmp_path)
    backbone = Backbone.from_transformers(tmp_path, pretrained=False)
    assert backbone.features(torch.rand(1, 3, 32, 32)).shape == (1, 32)
    torch.set_rng_state(state)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "hibou", "auto_map": {"AutoConfig": "configuration.Hibou"}},
            "it needs code of its own to be run, which sklgm never does",
        ),
        ({"model_type": "bert"}, "no vision model .*'bert'"),
        ({}, "describes no net that transformers can make"),
    ],
)
def test_what_is_no_vision_model_of_the_library(config, message, tmp_path):
    save("ViT", tmp_path)
    (tmp_path / "configuration.py").write_text("raise RuntimeError('run')")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        Backbone.from_transformers(tmp_path)


def test_processors_that_do_something_else(tmp_path):
    """Colours the other way round, for one: never taken for what they are not."""
    save("ViT", tmp_path)
    transformers.MobileViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does something else than to resize, crop"):
        Backbone.from_transformers(tmp_path)


def test_repositories_of_the_hub(tmp_path, monkeypatch):
    """Found in the cache, pinned to the commit; asked of the hub no longer than it takes."""
    import huggingface_hub

    commit = "0123456789" * 4
    repository = tmp_path / "models--someone--net"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    model = save("CLIP", repository / "snapshots" / commit, max_shard_size="30KB")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", in_cache(huggingface_hub, tmp_path)
    )
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", no_network)
    backbone = Backbone.from_name("transformers:someone/net")
    assert backbone.name == f"transformers:someone/net@{commit}"
    assert backbone is Backbone.from_name("transformers:someone/net@main")
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (backbone.spec.mean, backbone.spec.std))
    wanted = embed("CLIP", model, (pixels - mean) / std)
    torch.testing.assert_close(backbone.features(pixels), wanted, atol=1e-5, rtol=1e-5)
    other = {key: 0.9 * value for key, value in model.state_dict().items()}
    torch.save(other, tmp_path / "mine.pt")
    mine = Backbone.from_name("transformers:someone/net", checkpoint=tmp_path / "mine.pt")
    model.load_state_dict(other)
    wanted = embed("CLIP", model, (pixels - mean) / std)
    torch.testing.assert_close(mine.features(pixels), wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsNotFoundError, match=r"'transformers:no/net' cannot be had"):
        Backbone.from_name("transformers:no/net")
    for name in ("net", "./net", "a/b/c"):
        with pytest.raises(ValueError, match="is no Hugging Face repository"):
            Backbone.from_name(f"transformers:{name}")


def in_cache(library, folder):
    find = library.try_to_load_from_cache
    return lambda **where: find(**where, cache_dir=folder)


def no_network(*_, **__):
    raise OSError("no network")


@pytest.mark.parametrize("kind", ["Dinov2", "CLIP"])
def test_fit_and_score(kind, tmp_path):
    save(kind, tmp_path)
    X = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
    X[::2] //= 4
    y = ["dark", "bright"] * 4
    distiller = LGMDistiller(f"transformers:{tmp_path}", max_iter=2, device="cpu", random_state=0)
    distiller.fit(X, y)
    probe = FrozenBackboneProbe(
        f"transformers:{tmp_path}", distiller=distiller, max_epochs=2, device="cpu"
    )
    assert 0 <= probe.fit(X, y).score(X, y) <= 1


def test_without_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "sklgm\[transformers\]"'):
        Backbone.from_transformers(tmp_path)


def test_a_model_as_backbone_is_told_how_to_become_one():
    model = transformers.ViTModel(transformers.ViTConfig(**VIT))
    with pytest.raises(ValueError, match=r"ViTModel.*Backbone\.from_transformers\(model\)"):
        LGMDistiller(model).fit(np.zeros((2, 8, 8, 3)), [0, 1])
