import pytest
import timm
import torch
from torch import nn

from sklgm.backbones import Backbone
from sklgm.backbones._folding import fold_batch_norms

# Plain, with an activation inside the norm, concatenated branches, norms before convolutions.
ARCHITECTURES = ("resnet10t", "mobilenetv3_small_050", "densenet121", "resnetv2_18")
SIZE = 64


def with_statistics(net):
    """Give a net the norms of one that was trained."""
    generator = torch.Generator().manual_seed(0)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.3, generator=generator)
    return net.eval().requires_grad_(False)


def norms(net):
    return sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())


def pixels(n=3):
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self, bend):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.bend = bend

    def forward(self, images):
        return self.bend(self.convolution(images), self.norm).mean((2, 3))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folded_net_computes_the_same_features_and_gradients(architecture):
    net = with_statistics(timm.create_model(architecture, num_classes=0))
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    folded = fold_batch_norms(net, SIZE)

    assert norms(folded) < norms(net)
    assert not any(p.requires_grad for p in folded.parameters())
    by_net = []
    for one in (net, folded):
        images = pixels().requires_grad_()
        features = one(images)
        features.square().sum().backward()
        by_net.append((features.detach(), images.grad))
    # Rounding may take an activation across its kink, which a gradient notices.
    for wanted, found, tolerance in zip(*by_net, (1e-4, 1e-2), strict=True):
        assert (wanted - found).norm() < tolerance * wanted.norm()
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    "bend",
    [
        lambda x, norm: norm(x) + x,
        lambda x, norm: norm(x.relu_()),
        lambda x, norm: norm(norm(x)),
    ],
    ids=["output used twice", "changed in place", "norm used twice"],
)
def test_net_that_would_compute_something_else_is_kept(bend):
    net = with_statistics(Net(bend))
    assert fold_batch_norms(net, SIZE) is net


def test_simple_net_is_folded():
    net = with_statistics(Net(lambda x, norm: norm(x)))
    assert norms(fold_batch_norms(net, SIZE)) == 0


def test_net_without_running_statistics_is_kept():
    net = Net(lambda x, norm: norm(x))
    net.norm = nn.BatchNorm2d(8, track_running_stats=False)
    assert fold_batch_norms(net.eval(), SIZE) is net


def test_backbone_from_a_checkpoint_is_folded(tmp_path):
    net = with_statistics(timm.create_model("resnet10t"))
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    net.reset_classifier(0)
    backbone = Backbone.from_name(
        "timm:resnet10t", checkpoint=tmp_path / "weights.pth", image_size=SIZE, mean=0, std=1
    )

    assert norms(backbone.module) == 0
    torch.testing.assert_close(backbone.features(pixels()), net(pixels()), rtol=1e-4, atol=1e-4)
    assert norms(Backbone.from_module(net, image_size=SIZE).module) == norms(net) > 0
