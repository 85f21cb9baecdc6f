import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sklgm.backbones import Backbone
from sklgm.backbones._folding import fold_batch_norms, lay_out_attention

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
    backbone = Backbone.from_timm(
        "resnet10t", checkpoint=tmp_path / "weights.pth", image_size=SIZE, mean=0, std=1
    )

    assert norms(backbone.module) == 0
    torch.testing.assert_close(backbone.features(pixels()), net(pixels()), rtol=1e-4, atol=1e-4)
    assert norms(Backbone.from_module(net, image_size=SIZE).module) == norms(net) > 0


class Products(TorchDispatchMode):
    """Counts the matrices that batched products multiply."""

    def __init__(self):
        super().__init__()
        self.n_matrices = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.bmm.default:
            self.n_matrices += len(args[0])
        return function(*args, **kwargs or {})


class AttentionNet(nn.Module):
    """Patches, one layer of attention among them, their mean."""

    def __init__(self, attend):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.attend = attend

    def forward(self, images):
        patches = self.patches(images).flatten(2).mT.contiguous()
        return self.attend(self.attention, patches).mean(1)


SELF = {
    "by place": lambda attention, x: attention(x, x, x, need_weights=False)[0],
    "by name": lambda attention, x: attention(query=x, key=x, value=x, need_weights=False)[0],
    "three copies": lambda attention, x: attention(x, x + 0, x + 0, need_weights=False)[0],
    "one image": lambda attention, x: torch.stack([attention(a, a, a)[0] for a in x]),
}


def features_and_gradient(net):
    """Return features, the gradient to pixels, and how many matrices went into batched products."""
    images = pixels().requires_grad_()
    with Products() as products:
        features = net(images)
        features.sin().sum().backward()
    return features.detach(), images.grad, products.n_matrices


@pytest.mark.parametrize("attend", SELF.values(), ids=SELF)
def test_attention_laid_out_gives_the_same_features_and_gradients(attend):
    torch.manual_seed(0)
    net = AttentionNet(attend).eval().requires_grad_(False)
    wanted, wanted_gradient, _ = features_and_gradient(net)
    lay_out_attention(net)
    found, gradient, _ = features_and_gradient(net)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient, wanted_gradient)


def test_frozen_attention_projects_a_batch_at_once():
    net = AttentionNet(SELF["by place"]).eval().requires_grad_(False)
    _, _, before = features_and_gradient(net)
    backbone = Backbone.from_module(net, image_size=SIZE)
    _, _, after = features_and_gradient(backbone.module)

    n_patches = (SIZE // 8) ** 2
    assert before == 2 * n_patches  # one product each, forward and back
    assert after == 0
    assert not net.attention._forward_pre_hooks
