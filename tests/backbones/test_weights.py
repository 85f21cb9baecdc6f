"""Where weights come from: a hand-laid Hugging Face cache, and nothing at all."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch

timm = pytest.importorskip("timm")

# Nothing listens there: the hub is out of reach at once, also on a machine with network.
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}

SCRIPT = """
import json, time, torch
import open_clip, timm, torchvision
from sklgm.backbones import WeightsNotFoundError, get_backbone
errors, features = {}, {}
for name in ("clip", "dinov2", "timm:resnet18.a1_in1k"):
    start = time.perf_counter()
    try:
        get_backbone(name, device="cpu")
    except WeightsNotFoundError as error:
        errors[name] = [str(error), isinstance(error, OSError), time.perf_counter() - start]
for name, size in (("timm:resnet10t.c3_in1k", 64), ("timm:test_vit", 160), ("timm:test_vit", 80)):
    backbone = get_backbone(name, image_size=size, device="cpu")
    pixels = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size)
    features[f"{name} {size}"] = backbone.features(pixels).flatten().tolist()
print(json.dumps([errors, features]))
"""


def run(script, home, settings):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=env | {"HF_HOME": str(home)} | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def lay_out(home, repository, state):
    """Write a state dict where the hub's client would have put it."""
    from safetensors.torch import save_file

    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    save_file(state, folder / "snapshots" / commit / "model.safetensors")


@pytest.fixture(scope="module")
def nets():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        names = ("resnet10t.c3_in1k", "test_vit.r160_in1k")
        return {name: timm.create_model(name, num_classes=1000).eval() for name in names}


@pytest.fixture(scope="module", params=[OFFLINE, NO_HUB], ids=["offline", "no network"])
def outcome(request, tmp_path_factory, nets):
    """Run the script with a cache that holds two nets; return it, errors and features."""
    home = tmp_path_factory.mktemp("hugging_face")
    for name, net in nets.items():
        lay_out(home, f"timm/{name}", net.state_dict())
    return home, *run(SCRIPT, home, request.param)


def test_errors_come_at_once_and_help(outcome):
    home, errors, _ = outcome
    repositories = {
        "clip": "timm/vit_base_patch16_clip_224.openai",
        "dinov2": "timm/vit_base_patch14_dinov2.lvd142m",
        "timm:resnet18.a1_in1k": "timm/resnet18.a1_in1k",
    }
    assert set(errors) == set(repositories)
    for name, (message, is_os_error, seconds) in errors.items():
        assert is_os_error
        assert seconds < 10
        canonical = {"clip": "clip_vitb16", "dinov2": "dinov2_vitb14"}.get(name, name)
        tried = [repr(canonical), repositories[name], str(home), "the hub"]
        ways = ["HF_HOME", "Backbone.from_module", 'backbone="efficientnet_lite0"']
        for part in tried + ways:
            assert part in message


@pytest.mark.parametrize(
    ("key", "size"),
    [("timm:resnet10t.c3_in1k", 64), ("timm:test_vit", 160), ("timm:test_vit", 80)],
)
def test_a_filled_cache_works_without_network(outcome, nets, key, size):
    name = "test_vit.r160_in1k" if "vit" in key else "resnet10t.c3_in1k"
    net = copy.deepcopy(nets[name])
    net.reset_classifier(0)
    if size == 80:
        net.set_input_size(80)
    config = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (config.mean, config.std))
    pixels = torch.linspace(0, 1, 3 * size * size).view(1, 3, size, size)
    with torch.no_grad():
        wanted = net((pixels - mean) / std)[0]
    found = torch.tensor(outcome[2][f"{key} {size}"])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
