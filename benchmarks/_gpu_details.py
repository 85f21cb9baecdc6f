"""Measurements that decide what is worth changing next on a GPU: parts of `gpu.py`."""

import functools
import warnings
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import torch
from _gpu import AUTO, PRECISIONS, VIEWS, BareNet, cosines, pull_back

from sklgm import StandardAugmentation
from sklgm.images import check_images, iter_batches, resize_crop

# The way of the package itself, among others.
PACKAGE = "as sklgm does"


def of_package(backbone, precision):
    """Return how the package itself embeds pixels."""
    return functools.partial(backbone.features, autocast=PRECISIONS[precision])


def draws(bench, what, generators):
    """Draw 32 heads of 1000 x 768, or the noise of 64 views, and have them on the GPU."""
    shape = {"heads": (32, 1000, 768), "noise": (64, 3, 224, 224)}[what]
    shape = bench.size(shape, (2, 8, 8))
    place = torch.device("cpu") if generators.startswith("CPU") else bench.device

    def draw():
        numbers = torch.empty(shape, device=place)
        parts = [numbers] if generators.endswith("one") else numbers
        for seed, part in enumerate(parts):
            part.normal_(generator=torch.Generator(place).manual_seed(seed))
        return numbers.to(bench.device)

    return {"ms": 1e3 * bench.seconds(draw)}


def decoding(bench, n_jobs, by):
    """Decode the training photographs to the size of canvases, without any net."""
    source = check_images(bench.photos("train")[0])
    canvas = functools.partial(resize_crop, size=bench.backbone.canvas_size)
    n_jobs = bench.size(n_jobs, 1)
    if by == "threads":
        settings = {"batch_size": 64, "n_jobs": n_jobs}
        seconds = bench.measure(lambda: list(iter_batches(source, canvas, **settings)))[1]
    else:
        parts = np.array_split(np.arange(len(source)), 4 * n_jobs)
        with joblib.Parallel(n_jobs) as pool:
            jobs = [joblib.delayed(_decode)(source.take(part), canvas) for part in parts]
            pool(jobs[:n_jobs])
            seconds = bench.measure(lambda: pool(jobs))[1]
    return {"images_per_s": len(source) / seconds}


def _decode(source, canvas):
    return [canvas(source.read(i)) for i in range(len(source))]


def waits(bench, phase):
    """Count where Python waits for the GPU, by line, as far as torch knows.

    In the pass over 340 photographs in batches of 40, and in 10 steps.
    """
    X, y = bench.photos("train")
    distiller = bench.distiller(precision=AUTO, batch_size=40, max_iter=bench.size(10, 1))
    gradients = distiller.compute_gradients(X, y)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if bench.cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            if phase == "pass":
                distiller.compute_gradients(X, y)
            else:
                distiller.fit_gradients(gradients)
        finally:
            if bench.cuda:
                torch.cuda.set_sync_debug_mode("default")
    own = [w for w in found if "called a synchronizing" in str(w.message)]
    places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in own)
    return {"waits": len(own), "places": dict(places.most_common(12))}


def cast(bench, precision, weights):
    """Pass 40 views forward and back by when weights are cast, and as a CUDA graph.

    Cosines are those of pixel gradients with float32; the memory is what autograd keeps of four
    passes of ten views.
    """
    pixels = bench.pixels(bench.size(VIEWS, 4))
    if weights == PACKAGE:
        alone = of_package(bench.backbone, precision)
    else:
        alone = BareNet(bench.backbone, precision, cast=weights != "cast each time")
    with torch.no_grad():
        by_features = torch.randn_like(alone(pixels))
    exact = pull_back(BareNet(bench.backbone), pixels, by_features)
    kept = None
    if weights.endswith("graph"):
        sample = pixels.clone().requires_grad_()
        alone = torch.cuda.make_graphed_callables(alone, (sample,)) if bench.cuda else alone
    elif bench.cuda:
        before = torch.cuda.memory_allocated(bench.device)
        graphs = [alone(part.requires_grad_()) for part in pixels.clone().split(len(pixels) // 4)]
        kept = (torch.cuda.memory_allocated(bench.device) - before) / 2**20
        del graphs
    seconds = bench.seconds(lambda: pull_back(alone, pixels, by_features))
    found = pull_back(alone, pixels, by_features)
    return {"both_ms": 1e3 * seconds, "kept_mib": kept, **cosines(found, exact)}


@functools.cache
def two_views(bench, n):
    """Return random crops of photographs, two each of n, on the device."""
    images = torch.from_numpy(bench.decoded).permute(0, 3, 1, 2).float() / 255
    generator, views = torch.Generator().manual_seed(0), []
    for _ in range(2):
        drawn = StandardAugmentation().draw(n, images.shape[-1], generator)
        parts = [slice(start, min(start + 64, n)) for start in range(0, n, 64)]
        rows = torch.arange(n) % len(images)
        size = bench.backbone.image_size
        made = (
            StandardAugmentation().apply(images[rows[p]].to(bench.device), drawn[p], size)
            for p in parts
        )
        views.append(torch.cat(list(made)))
    return views


def slope_of_distance(real, own, scale=0.01):
    """Return the derivative of the angular distance on 32 heads of one image a class each."""
    n, d = own.shape
    heads = scale * torch.randn(32, n, d, generator=torch.Generator().manual_seed(0)).to(own)

    def gradient(features):
        error = torch.softmax(torch.einsum("hcd,nd->hnc", heads, features), -1)
        error = error - torch.eye(n, device=own.device)
        rows = torch.cat([features, torch.ones_like(features[:, :1])], 1)
        return torch.einsum("hnc,nd->hcd", error, rows).flatten(1)

    own = own.detach().requires_grad_()
    cos = torch.nn.functional.cosine_similarity(gradient(own), gradient(real))
    (1 - cos.mean()).backward()
    return own.grad


def scaling(bench, n_classes, precision, scale):
    """Compare pixel gradients of 40 views with float32, by precision and loss scaling.

    The derivative by the features is that of the angular distance on 32 random heads, of one image
    a class.
    """
    n_classes = bench.size(n_classes, max(2, n_classes // 100))
    exact = BareNet(bench.backbone)
    real, own = two_views(bench, n_classes)
    with torch.no_grad():
        z = [torch.cat([exact(part) for part in views.split(64)]) for views in (real, own)]
    slope, pixels = slope_of_distance(*z)[:VIEWS], own[:VIEWS]
    if scale == PACKAGE:
        found = pull_back(of_package(bench.backbone, precision), pixels, slope)
    else:
        found = pull_back(BareNet(bench.backbone, precision), pixels, slope, float(scale))
    return {
        "size_of_derivative": float(slope.abs().mean()),
        "zeros": float((found == 0).float().mean()),
        **cosines(found, pull_back(exact, pixels, slope)),
    }


def determinism(bench, precision, deterministic):
    """Compare two fits of 20 steps with one seed, by whether kernels must be deterministic."""
    X, y = bench.photos("train")
    distiller = bench.distiller(precision=precision, max_iter=bench.size(20, 2))
    bench.warm_up(precision)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        try:
            fits = [bench.measure(lambda: distiller.fit(X, y).prototypes_)[:2] for _ in range(2)]
        finally:
            torch.use_deterministic_algorithms(False)
    said = {str(w.message).partition(" ")[0] for w in found if "determinis" in str(w.message)}
    (one, seconds), (other, _) = fits
    return {
        "equal": bool(np.array_equal(one, other)),
        "largest_difference": float(np.abs(one - other).max()),
        "seconds": seconds,
        "without_such_kernels": sorted(said),
    }


def processor(bench, precision):
    """Pass 8 views forward and back on the CPU, by precision, and say what the CPU has."""
    backbone = bench.backbone.to("cpu")
    pixels = bench.pixels(bench.size(8, 2)).cpu()
    by_features = torch.randn(len(pixels), backbone.n_features)
    alone = of_package(backbone, precision)
    seconds = bench.seconds(lambda: pull_back(alone, pixels, by_features), repeat=5, warm=1)
    exact = pull_back(backbone.features, pixels, by_features)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "both_ms": 1e3 * seconds,
        "threads": torch.get_num_threads(),
        "units": [flag for flag in ("avx512_bf16", "amx_bf16", "amx_fp16") if flag in flags],
        **cosines(pull_back(alone, pixels, by_features), exact),
    }


def compiled(bench, mode):
    """Pass 40 views forward and back through the compiled net, and time its first call."""
    alone = BareNet(bench.backbone, AUTO)
    pixels = bench.pixels(bench.size(VIEWS, 2))
    by_features = torch.randn_like(alone(pixels).detach())
    before = bench.seconds(lambda: pull_back(alone, pixels, by_features))
    options = {"mode": mode} if bench.cuda else {"backend": "eager"}
    alone.module = torch.compile(alone.module, **options)
    first = bench.measure(lambda: pull_back(alone, pixels, by_features))[1]
    seconds = bench.seconds(lambda: pull_back(alone, pixels, by_features))
    peak = bench.measure(lambda: pull_back(alone, pixels, by_features))[2]
    torch.compiler.reset()
    return {
        "first_s": first,
        "both_ms": 1e3 * seconds,
        "both_ms_before": 1e3 * before,
        "peak_mib": peak,
    }
