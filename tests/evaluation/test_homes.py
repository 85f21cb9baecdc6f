"""Nets that saved prototypes are looked at with, beside what the prototypes say of theirs."""

import warnings

import numpy as np
import pytest
import timm
import torch

from sklgm import PrototypeSet, RandomImages
from sklgm.evaluation._homes import nets_of


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


def made_on(name):
    X = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    return PrototypeSet.from_estimator(RandomImages(name, image_size=32).fit(X, [0, 0, 1, 1]))


def test_a_net_as_it_was(file):
    name = f"timm:test_resnet@{file}?mean=0.4&std=0.25"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (net,) = nets_of(made_on(name), [name], None).values()
    assert net.image_size == 32


def test_a_moved_file_is_known_by_its_content(file):
    prototypes = made_on(f"timm:test_resnet@{file}")
    moved = file.rename(file.with_name("moved.pth"))
    (net,) = nets_of(prototypes, [f"timm:test_resnet@{moved}"], None).values()
    assert net.image_size == 32
    (larger,) = nets_of(prototypes, [f"timm:test_resnet@{moved}"], 64).values()
    assert larger.image_size == 64


def test_images_that_are_prepared_otherwise(file):
    prototypes = made_on(f"timm:test_resnet@{file}?mean=0.4&std=0.25")
    with pytest.warns(UserWarning, match=r"\[0.4, 0.4, .*is 'timm:.*\?mean=0.4&std=0.25&crop"):
        nets_of(prototypes, [f"timm:test_resnet@{file}"], None)


def test_other_weights_in_the_same_file(file):
    prototypes = made_on(f"timm:test_resnet@{file}")
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), file)
    with pytest.warns(UserWarning, match="this one has name timm:test_resnet#"):
        nets_of(prototypes, [f"timm:test_resnet@{file}"], None)
