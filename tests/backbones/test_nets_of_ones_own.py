"""Nets that people bring: what is said of those that do not do, and how their code travels."""

import os
import pickle
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch import nn

from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller, RandomHeads, RandomImages
from sklgm.alignment import alignment_matrix
from sklgm.backbones import Backbone, _modules
from tests.image_checks import toy_images
from tests.tiny_backbones import TinyConvNet, tiny_backbone

X, Y = toy_images()
ROOT = Path(__file__).parents[2]


def distiller(backbone, **params):
    return LGMDistiller(
        backbone,
        max_iter=2,
        heads=RandomHeads(pool_size=4),
        n_views=1,
        random_state=0,
        device="cpu",
        **params,
    )


NOT_BACKBONES = {
    "module": nn.Sequential(*[nn.Linear(3, 3) for _ in range(99)]),
    "class": TinyConvNet,
    "array": np.zeros((999, 999)),
    "module in a dict": {"net": nn.Sequential(*[nn.Linear(3, 3) for _ in range(99)])},
}
ASKING = {
    "distiller": distiller,
    "among several": lambda net: distiller([tiny_backbone(), net]),
    "probe": FrozenBackboneProbe,
    "embedder": BackboneEmbedder,
    "selector": RandomImages,
}


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("given", NOT_BACKBONES)
def test_what_is_no_backbone_is_told_how_to_become_one(given, asking):
    with pytest.raises(ValueError, match=r"Backbone\.from_module\(net, image_size=224, mean=") as e:
        ASKING[asking](NOT_BACKBONES[given]).fit(X, Y)
    assert len(str(e.value)) < 400


def test_the_line_is_the_same_elsewhere():
    net = NOT_BACKBONES["module"]
    with pytest.raises(ValueError, match=r"Sequential\..*Backbone\.from_module\(net, image_size"):
        alignment_matrix([tiny_backbone(), net], X)
    with pytest.raises(ValueError, match=r"must be a string, got a torch\.nn\.Module, Sequential"):
        Backbone.from_name(net)


class Without(TinyConvNet):
    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)


class Inferring(TinyConvNet):
    @torch.inference_mode()
    def forward(self, images):
        return super().forward(images)


class Returning(TinyConvNet):
    """Return what a function makes of the features."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(super().forward(images))


BLOCKING = {
    "no_grad": Without,
    "inference_mode": Inferring,
    "detach": lambda: Returning(lambda z: z.detach()),
    "numpy": lambda: Returning(lambda z: torch.from_numpy(z.numpy())),
    "constant": lambda: Returning(torch.ones_like),
}


@pytest.mark.parametrize("kind", BLOCKING)
def test_nets_that_block_gradients_serve_for_embedding_alone(kind):
    backbone = Backbone.from_module(BLOCKING[kind](), image_size=16)
    message = "have no gradient with respect to the pixels.*no_grad"
    for unfit in (lambda: distiller(backbone).fit(X, Y), lambda: distiller(backbone).fit(X, Y)):
        with pytest.raises(ValueError, match=message):
            unfit()
    with pytest.raises(ValueError, match=message):
        distiller([tiny_backbone(), backbone]).compute_gradients(X, Y)
    embedded = BackboneEmbedder(backbone, device="cpu").fit_transform(X)
    assert embedded.shape == (len(X), 16)


def test_gradients_are_missed_where_they_are_first_asked_for():
    backbone = Backbone.from_module(Without(), image_size=16)
    pixels = torch.rand(1, 3, 16, 16)
    assert backbone.features(pixels).shape == (1, 16)
    with pytest.raises(ValueError, match="no gradient"):
        backbone.features(pixels.requires_grad_())


class Output(dict):
    pass


UNFIT = {
    "pair": (Returning(lambda z: (z, z)), r"returned tuple.*`net\(images\)\[0\]` of a pair"),
    "dict": (Returning(lambda z: Output(pooled=z)), "returned Output"),
    "array": (Returning(lambda z: z.detach().numpy()), "must return a tensor .*returned ndarray"),
    "tokens": (Returning(lambda z: z[:, None]), r"\(2, 1, 16\).*`\[:, 0\]` of tokens"),
    "map": (nn.Conv2d(3, 4, 3), r"\(2, 4, 14, 14\).*`\.mean\(\(2, 3\)\)` of a map"),
    "no features": (Returning(lambda z: z[:, :0]), r"returned \(2, 0\)"),
    "grey": (
        nn.Sequential(nn.Conv2d(1, 2, 3)),
        r"Sequential\(torchvision.transforms.Grayscale\(\), net\)",
    ),
    "another size": (nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), "Set image_size to what"),
    "half inside": (nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), r"\(2, 3, 16, 16\)"),
    "no weights": (TinyConvNet().to("meta"), "device='meta' is not available"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_nets_that_do_not_do_are_told_why(kind):
    net, message = UNFIT[kind]
    with pytest.raises(ValueError, match=message):
        Backbone.from_module(net, image_size=16)


def test_the_line_for_a_grey_net():
    transforms = pytest.importorskip("torchvision").transforms
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    grey = nn.Sequential(transforms.Grayscale(), net)
    backbone = Backbone.from_module(grey, image_size=16)
    assert distiller(backbone).fit(X, Y).prototypes_.shape[-1] == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda net: torch.jit.trace(net, torch.rand(2, 3, 16, 16))]
)
def test_wrapped_nets_do(wrap):
    net = TinyConvNet().eval()
    pixels = torch.rand(2, 3, 16, 16)
    found = Backbone.from_module(wrap(net), image_size=16).features(pixels.requires_grad_())
    torch.testing.assert_close(found, net(pixels))
    found.sum().backward()
    assert pixels.grad.any()
    assert any(tensor.requires_grad for tensor in net.parameters())


def features_of_zeros(backbone):
    return backbone.features(torch.zeros(1, 3, 16, 16))


def test_a_module_that_only_this_process_finds_travels_with_its_code(tmp_path, monkeypatch):
    """As those of `torch.hub`, which takes their folder off the path once they are imported."""
    (tmp_path / "hubconf_net.py").write_text(
        "from tests.tiny_backbones import TinyConvNet\n"
        "SCALE = 2\n"
        "class HubNet(TinyConvNet):\n"
        "    def forward(self, images):\n"
        "        return SCALE * super().forward(images)\n"
    )
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        import hubconf_net
    backbone = Backbone.from_module(hubconf_net.HubNet(), image_size=16)
    (features,) = joblib.Parallel(2)([joblib.delayed(features_of_zeros)(backbone)])
    torch.testing.assert_close(features, features_of_zeros(backbone))
    dumps = _modules.cloudpickle.dumps
    monkeypatch.setattr(_modules.cloudpickle, "dumps", lambda net: time.sleep(0.1) or dumps(net))
    with ThreadPool(2) as threads:  # both at once
        assert all(b"SCALE" in parcel for parcel in threads.map(pickle.dumps, [backbone] * 2))
    del sys.modules["hubconf_net"]


SCRIPT = """
import sys

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from sklgm import Backbone, BackboneEmbedder, LGMDistiller, RandomHeads
from tests.image_checks import toy_images
from tests.tiny_backbones import TinyConvNet

class Net(TinyConvNet):
    def __init__(self):
        super().__init__()
        self.act = lambda features: features.sin()

    def forward(self, images):
        return self.act(super().forward(images))

if __name__ == "__main__":
    X, y = toy_images()
    net = Backbone.from_module(Net(), image_size=16)
    options = {"random_state": 0, "device": "cpu", "n_views": 1}
    distiller = LGMDistiller(net, max_iter=2, heads=RandomHeads(pool_size=4), **options)
    alone = distiller.fit(X, y).prototypes_
    with joblib.parallel_config(backend="loky", n_jobs=2):
        shared = distiller.set_params(n_jobs=2).fit(X, y).prototypes_
    assert np.allclose(alone, shared, atol=1e-4)
    rows = make_pipeline(BackboneEmbedder(net), LogisticRegression(), memory=sys.argv[1])
    assert len(cross_val_score(rows, X, y, cv=2, n_jobs=2, error_score="raise")) == 2
    search = GridSearchCV(distiller, {"max_iter": [1]}, cv=2, n_jobs=2, scoring=lambda *_: 0.5)
    print(search.fit(X, y).best_score_)
"""


def test_a_script_with_its_own_net_and_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", "kept"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 0.5
