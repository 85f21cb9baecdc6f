"""Linear Gradient Matching as published, as plainly as it can be written: the yardstick.

Every step embeds a fresh batch of randomly cropped real images and as many views of the synthetic
ones, draws one fresh head, and goes backward through the gradient of the probe by autograd. It
uses nothing of ``sklgm``: what it gets is a function from pixels to features.

Run alone, it writes snapshots of the prototypes to a file: ``python benchmarks/published_recipe.py
--data fashion-mnist --seed 0 --out FOLDER``. ``time_to_accuracy.py`` reads such files.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

STEPS = 5000
VIEWS = 10
LEARNING_RATE = 2e-3
GROW_EVERY = 200
HEAD_SCALE = 0.01
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
NOISE_MEAN, NOISE_STD = 0.5, 0.2
# Square root of the covariance of colours in photographs, of the published colour decorrelation.
COLORS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


def distil(features, images, labels, n_classes, *, image_size, n_steps=STEPS, seed=0):
    """Yield the prototypes before the first step and after each one.

    Parameters
    ----------
    features : callable
        Pixels (n, 3, image_size, image_size) in [0, 1] to features (n, d), differentiable.
    images : Tensor of shape (n, 3, canvas, canvas)
        Real images, pixels in [0, 1].
    labels : Tensor of shape (n,)
        Class indices, from 0.
    n_classes, image_size, n_steps, seed : int
        How many classes; side of what the net sees; steps; of the global generator.

    Yields
    ------
    Tensor of shape (n_classes, 3, canvas, canvas)
        Pixels in [0, 1].
    """
    torch.manual_seed(seed)
    rows = [torch.nonzero(labels == c)[:, 0] for c in range(n_classes)]
    canvas = images.shape[-1]
    levels, sizes = [], pyramid(canvas)
    view_labels = torch.arange(n_classes).repeat_interleave(VIEWS)
    yield decode([torch.zeros(n_classes, 3, 1, 1)], canvas)
    for step in range(n_steps):
        if step % GROW_EVERY == 0 and len(levels) < len(sizes):
            n = len(levels)
            levels = [level.detach() * (n / (n + 1)) for level in levels]
            levels.append(torch.randn(n_classes, 3, sizes[n], sizes[n]) / (n + 1))
            for level in levels:
                level.requires_grad_()
            optimizer = torch.optim.Adam(levels, lr=LEARNING_RATE)
        drawn = torch.cat([r[torch.randint(len(r), (VIEWS,))] for r in rows])
        with torch.no_grad():
            real = features(augment(images[drawn], image_size))
        views = decode(levels, canvas).repeat_interleave(VIEWS, dim=0)
        synthetic = features(augment(views, image_size))
        head = nn.Linear(real.shape[1], n_classes)
        nn.init.normal_(head.weight, std=HEAD_SCALE)
        nn.init.zeros_(head.bias)
        target = probe_gradient(head, real, view_labels, create_graph=False)
        own = probe_gradient(head, synthetic, view_labels, create_graph=True)
        loss = 1 - functional.cosine_similarity(own, target, dim=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            yield decode(levels, canvas)


def probe_gradient(head, features, labels, *, create_graph):
    """Return the flat gradient of a head's cross-entropy."""
    loss = functional.cross_entropy(head(features), labels)
    parts = torch.autograd.grad(loss, head.parameters(), create_graph=create_graph)
    return torch.cat([part.flatten() for part in parts])


def pyramid(canvas):
    """Return the sides of the levels: 1, 2, 4 and so on, and the canvas."""
    sizes = [2**i for i in range(canvas.bit_length()) if 2**i < canvas]
    return [*sizes, canvas]


def decode(levels, canvas):
    """Return the images that the levels of a pyramid stand for."""
    total = sum(
        functional.interpolate(level, (canvas, canvas), mode="bilinear") for level in levels
    )
    colors = (COLORS / COLORS.norm(dim=0).max()).to(total)
    return torch.sigmoid(2 * torch.einsum("rc,nchw->nrhw", colors, total))


def augment(images, size):
    """Return one random view of each image: mirrored, cropped, noised."""
    n = len(images)
    area = torch.empty(n).uniform_(*SCALE)
    ratio = torch.empty(n).uniform_(*map(math.log, RATIO)).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = torch.rand(n) * (1 - width), torch.rand(n) * (1 - height)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * mirror, 2 * left + width - 1
    theta[:, 1, 1], theta[:, 1, 2] = height, 2 * top + height - 1
    grid = functional.affine_grid(theta, (n, 3, size, size), align_corners=False)
    cut = functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
    noise = NOISE_MEAN + NOISE_STD * torch.randn_like(cut)
    noisy = (torch.rand(n) < 0.5)[:, None, None, None]
    return torch.where(noisy, (cut + noise).clamp(0, 1), cut)


def snapshots(
    features, images, labels, n_classes, *, image_size, seed, every, n_steps=STEPS, path=None
):
    """Return steps, seconds since the start and prototypes, as a dict of arrays.

    With a path, they are written there after each snapshot: a run takes an hour.
    """
    found = {"step": [], "seconds": [], "prototypes": []}
    start = time.perf_counter()
    run = distil(
        features, images, labels, n_classes, image_size=image_size, n_steps=n_steps, seed=seed
    )
    for step, prototypes in enumerate(run):
        if step % every == 0:
            found["step"].append(step)
            found["seconds"].append(time.perf_counter() - start)
            found["prototypes"].append(prototypes.permute(0, 2, 3, 1).numpy())
            print(f"recipe: step {step}, {found['seconds'][-1]:.0f} s", flush=True)
            if path:
                np.savez(path, **found)
    return {name: np.array(values) for name, values in found.items()}


def main():
    """Run on a data set and write the snapshots."""
    from _data import DATA, add_data_argument, canvases, load

    from sklgm.backbones import Backbone

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=DATA, default="fashion-mnist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--every", type=int, default=250, help="steps between two snapshots")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    add_data_argument(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    X, _, y, _ = load(arguments.data, arguments.fashion_mnist)
    backbone = Backbone.from_name("efficientnet_lite0", image_size=56)
    classes, labels = np.unique(y, return_inverse=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    snapshots(
        backbone.features,
        canvases(X, backbone.canvas_size),
        torch.from_numpy(labels),
        len(classes),
        image_size=backbone.image_size,
        seed=arguments.seed,
        every=arguments.every,
        n_steps=arguments.steps,
        path=arguments.out / f"{arguments.data}-{arguments.seed}.npz",
    )


if __name__ == "__main__":
    main()
