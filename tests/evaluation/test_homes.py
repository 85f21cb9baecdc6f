"""Nets that saved prototypes are looked at with, beside what the prototypes say of theirs."""

import warnings

import numpy as np
import pytest
import timm
import torch

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet, RandomHeads, RandomImages
from sklgm.backbones import Backbone
from sklgm.estimators.probing import probe_of
from sklgm.evaluation import cross_model_transfer
from sklgm.evaluation._homes import made_them
from sklgm.prototypes.nets import nets_of

X = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
Y = ["cat", "dog"] * 4


def save(path, seed=0):
    torch.manual_seed(seed)
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


@pytest.fixture
def file(tmp_path):
    return save(tmp_path / "net.pth")


def made_on(backbone, image_size=32):
    return PrototypeSet.from_estimator(RandomImages(backbone, image_size=image_size).fit(X, Y))


def test_a_net_as_it_was(file):
    name = f"timm:test_resnet@{file}?mean=0.4&std=0.25"
    prototypes = made_on(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nets = nets_of(prototypes, [name], None)
        FrozenBackboneProbe(name, image_size=32, max_epochs=1).fit(prototypes)
    assert [net.image_size for net in nets.values()] == [32]


def test_a_net_is_known_by_its_content(file):
    """Not by a name: of an object there is none, and a file may be moved."""
    for backbone in (
        f"timm:test_resnet@{file}",
        Backbone.from_timm("test_resnet", checkpoint=file, image_size=32),
    ):
        prototypes = made_on(backbone, None if isinstance(backbone, Backbone) else 32)
        file = file.rename(file.with_name(f"moved_{file.name}"))
        name = f"timm:test_resnet@{file}"
        nets = nets_of(prototypes, [name], None)
        assert nets[name].image_size == 32
        assert made_them(prototypes, nets) == [name]
        assert nets_of(prototypes, [name], 64)[name].image_size == 64


def test_images_that_are_prepared_otherwise(file):
    name = f"timm:test_resnet@{file}"
    prototypes = made_on(f"{name}?mean=0.4&std=0.25")
    message = r"made with mean \[0.4, .*, but for .* it is mean .*\?mean=0.4&std=0.25'\."
    with pytest.warns(UserWarning, match=message):
        nets_of(prototypes, [name], None)
    with pytest.warns(UserWarning, match=message):
        FrozenBackboneProbe(name, image_size=32, max_epochs=1).fit(prototypes)
    # A net with a name of its own, too, and one of the same architecture with other weights.
    of_library = made_on("efficientnet_lite0?mean=0.4&std=0.25")
    with pytest.warns(UserWarning, match=r"'efficientnet_lite0\?mean=0.4&std=0.25'\."):
        nets_of(of_library, ["efficientnet_lite0"], None)
    other = f"timm:test_resnet@{save(file.with_name('other.pth'), 1)}"
    with pytest.warns(UserWarning, match="made with mean|has other weights") as found:
        nets_of(prototypes, [other], None)
    assert len(found) == 2


def test_other_weights_in_the_same_file(file):
    name = f"timm:test_resnet@{file}"
    prototypes = made_on(name)
    save(file, 1)
    with pytest.warns(UserWarning, match="has other weights than the net that the"):
        nets = nets_of(prototypes, [name], None)
    assert nets[name].image_size == 32


def test_the_size_of_a_net_with_options_is_that_of_its_prototypes(file):
    """And other pooling is no other net. A warning is an error here."""
    made = made_on("efficientnet_lite0")
    for name in ("efficientnet_lite0", "efficientnet_lite0?crop_pct=1"):
        assert nets_of(made, [name], None)[name].image_size == 32
    name = f"timm:test_resnet@{file}"
    assert nets_of(made_on(f"{name}?pooling=max"), [name], None)[name].image_size == 32


def test_the_first_net_of_joint_prototypes_is_looked_with(file):
    """Another one may be in a file, which is opened by name alone."""
    nets = ["efficientnet_lite0", f"timm:test_resnet@{file}"]
    parameters = {"backbone": nets, "image_size": 32}
    made = PrototypeSet(X[:2] / np.float32(255), ["cat", "dog"], {"parameters": parameters})
    found = probe_of(made, None, None).backbone
    assert (found.name, found.image_size) == ("efficientnet_lite0", 32)
    with pytest.raises(ValueError, match="only loaded when asked for"):
        nets_of(made, (), None)
    with pytest.raises(ValueError, match="must be a name or a Backbone"):
        probe_of(made, ["clip"], None)


def test_nets_of_one_architecture_may_be_compared(file):
    """A warning is an error here."""
    other = save(file.with_name("other.pth"), 1)
    names = [f"timm:test_resnet@{file}", f"timm:test_resnet@{other}?mean=0.4&std=0.25"]
    small = {"image_size": 32, "max_iter": 1, "heads": RandomHeads(2, 2), "n_views": 1}
    cross_model_transfer(
        *(X, Y, X, Y),
        backbones=names,
        distillers=LGMDistiller(**small),
        n_seeds=1,
        probe=FrozenBackboneProbe(max_epochs=1, image_size=32),
    )


@pytest.mark.parametrize("mean", [None, [], {}, "\x1b[31m" + "x" * 3000, [0.5, 0.5], [np.nan] * 3])
@pytest.mark.parametrize("size", [None, "\x1b", 10**9, 32])
def test_what_strangers_say_of_a_net(mean, size):
    """Nothing of it is run, printed raw or at length, or taken for an image size that it is not."""
    facts = {"name": "efficientnet_lite0", "mean": mean, "image_size": size}
    for preprocessing in (facts, [facts], [facts, 3, [facts]], "x"):
        made = PrototypeSet(X[:2] / np.float32(255), ["cat", "dog"])
        made.provenance["preprocessing"] = preprocessing
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            (net,) = nets_of(made, ["efficientnet_lite0"], None).values()
        assert net.image_size == (32 if size == 32 and type(preprocessing) is list else 224)
        for message in (str(one.message) for one in found):
            assert "\x1b" not in message
            assert "?mean" not in message
            assert len(message) < 400
