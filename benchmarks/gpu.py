"""What only a GPU can show, in one run of some minutes: what works there, how fast, what next.

On CLIP ViT-B/16 and the photographs of ``FOLDER/imagewoof/{train,test}/CLASS/*.jpg``. Each figure
is added to ``results/gpu.jsonl`` as soon as it is there, with the card, the version of torch and
the commit; tables of the newest figures of each part follow at the end. What there is no time for
is named and left out: ``--parts`` runs some parts another time.

FLOPs are those of the net's products as torch counts them: a multiply-add is two, and a view counts
once forward and once back, also where it passes twice to save memory. They are compared with what a
product of two random matrices of 8192 x 8192 reaches in the same run, some 80 % of the peak that
makers state.

Run: ``python benchmarks/gpu.py --photos FOLDER --weights FOLDER``, with the weights that
``benchmarks/weights.py`` writes. ``--device cpu --quick`` is a trial.
"""

import functools
import itertools
import re
import subprocess
import sys
import tempfile

import numpy as np
import published_recipe
import torch
from _data import canvases
from _gpu import AUTO, PRECISIONS, ROOT, VIEWS, BareNet, Bench, grid, parse, pull_back, tables, tf32
from _gpu_details import (
    PACKAGE,
    cast,
    compiled,
    decoding,
    determinism,
    draws,
    processor,
    scaling,
    waits,
)
from sklearn.linear_model import LogisticRegression

from sklgm import BackboneEmbedder, FrozenBackboneProbe, RandomHeads

STEPS, SHORT_FITS = 100, (20, 30, 40, 50)
PROBE_VIEWS = 24
# Steps of the recipe between two scores.
EVERY = 250


def net(bench, precision, views):
    """Pass images that are there through the net alone: forward, and forward and back."""
    views = bench.size(views, 2)
    alone, pixels = BareNet(bench.backbone, precision), bench.pixels(views)
    with tf32(precision == "TF32"):
        with torch.no_grad():
            by_features = torch.randn_like(alone(pixels))
            forward = bench.seconds(lambda: alone(pixels))
        both = bench.seconds(lambda: pull_back(alone, pixels, by_features))
        peak = bench.measure(lambda: pull_back(alone, pixels, by_features))[2]
    there = bench.matmul(precision) / views
    return {
        "forward_ms": 1e3 * forward,
        "both_ms": 1e3 * both,
        "peak_mib": peak,
        "matmul_tflop_per_s": bench.matmul(precision) / 1e12,
        "forward_part_of_it": bench.flops[0] / forward / there,
        "both_part_of_it": sum(bench.flops) / both / there,
        "gflop_forward": bench.flops[0] / 1e9,
        "gflop_back": bench.flops[1] / 1e9,
    }


def tests(bench):
    """Run the tests that ask for a GPU, or say that they are about one."""
    files = [str(f) for f in (ROOT / "tests").rglob("test_*.py") if "cuda" in f.read_text()]
    options = ["-q", "-k", "(cuda or gpu or skipif) and not benchmark", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "-o", "filterwarnings=default"]
    done = subprocess.run(
        [*command, *sorted(files)[-bench.size(99, 1) :]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    return {
        "outcome": lines[-1] if lines else done.stderr[-300:],
        "failed": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
    }


def real_pass(bench, precision, images, n_jobs, batch_size=None):
    """Pass over 1360 real images of two views each: files, or arrays of the size for views."""
    times = bench.size(4, 1)
    X, y = bench.photos("train", times)
    if images == "arrays":
        X = np.tile(bench.decoded, (times, 1, 1, 1))
    at_once = batch_size and bench.size(batch_size, 2)
    params = {"precision": precision, "n_jobs": n_jobs, "batch_size": at_once or "auto"}
    distiller = bench.distiller(**params)
    step, repeat = bench.size((10, 2), (2, 1))
    distiller.compute_gradients(X[::step], y[::step])
    _, seconds, peak = bench.measure(lambda: distiller.compute_gradients(X, y), repeat)
    views = 2 * len(X) / seconds
    return {
        "images_per_s": len(X) / seconds,
        "views_per_s": views,
        "part_of_net_alone": views / bench.views_per_second(precision, at_once),
        "part_of_matmul": views * bench.flops[0] / bench.matmul(precision),
        "peak_mib": peak,
    }


def step(bench, precision):
    """Time a step of a fit of ten classes with 40 views, beside the passes of the net alone."""
    n_steps = bench.size(STEPS, 2)
    X, y = bench.photos("train")
    gradients = bench.distiller(precision=precision).compute_gradients(X, y)
    bench.distiller(precision=precision, max_iter=3).fit_gradients(gradients)
    distiller = bench.distiller(precision=precision, max_iter=n_steps)
    _, seconds, peak = bench.measure(lambda: distiller.fit_gradients(gradients))
    views = 4 * len(np.unique(y))
    alone, pixels = BareNet(bench.backbone, precision), bench.pixels(views)
    by_features = torch.randn_like(alone(pixels).detach())
    both = bench.seconds(lambda: pull_back(alone, pixels, by_features))
    return {
        "ms": 1e3 * seconds / n_steps,
        "net_alone_ms": 1e3 * both,
        "net_alone_part": both * n_steps / seconds,
        "part_of_matmul": views * sum(bench.flops) * n_steps / seconds / bench.matmul(precision),
        "peak_mib": peak,
    }


def memory(bench, batch_size):
    """Fit 5 steps in the default precision by how many images pass the net at once."""
    X, y = bench.photos("train")
    params = {"precision": AUTO, "max_iter": bench.size(5, 1)}
    distiller = bench.distiller(batch_size=batch_size, **params)
    few = slice(None, None, bench.size(5, 1))
    gradients, seconds, in_pass = bench.measure(lambda: distiller.compute_gradients(X[few], y[few]))
    _, in_steps, peak = bench.measure(lambda: distiller.fit_gradients(gradients))
    return {
        "pass_s": seconds,
        "ms_a_step": 1e3 * in_steps / distiller.max_iter,
        "pass_peak_mib": in_pass,
        "peak_mib": peak,
    }


def classes(bench, n_classes, kind, heads):
    """Fit by number of classes: 8 rows of 768 features each, or 1 photograph in batches of 40.

    "growing" is what the documentation counts of prototypes, heads, gradients and features; "rest"
    is the peak without that and without what was there before.
    """
    n_classes = bench.size(n_classes, max(2, n_classes // 100))
    n_steps, canvas, d = bench.size(10 if kind == "features" else 3, 1), 0, 768
    if kind == "features":
        X = np.random.default_rng(0).standard_normal((8 * n_classes, d), dtype=np.float32)
    else:
        X = np.resize(bench.decoded, (n_classes, *bench.decoded.shape[1:]))
        canvas, d = bench.backbone.canvas_size, bench.backbone.n_features
    params = {"precision": AUTO, "batch_size": 40, "heads": heads, "max_iter": n_steps}
    distiller = bench.distiller(features=kind == "features", **params)
    y = np.arange(len(X)) % n_classes
    before = torch.cuda.memory_allocated(bench.device) / 2**20 if bench.cuda else None
    gradients, seconds, in_pass = bench.measure(lambda: distiller.compute_gradients(X, y))
    _, in_steps, peak = bench.measure(lambda: distiller.fit_gradients(gradients))
    pool = (RandomHeads().pool_size + RandomHeads().n_heads) if heads == "random" else 2
    features = 32 if canvas else 8
    flops = 4 * n_classes * sum(bench.flops) if canvas else None
    growing = n_classes * (144 * canvas**2 + 4 * pool * (2 * d + 1) + 4 * features * d) / 2**20
    return {
        "pass_s": seconds,
        "ms_a_step": 1e3 * in_steps / n_steps,
        "pass_peak_mib": in_pass,
        "peak_mib": peak,
        "growing_mib": growing,
        "rest_mib": peak and peak - before - growing,
        "part_of_matmul": flops and flops * n_steps / in_steps / bench.matmul(AUTO),
    }


@functools.cache
def features_of_tests(bench):
    """Return the features of the test photographs, in float32."""
    embedder = BackboneEmbedder(bench.backbone, precision="float32", device=str(bench.device))
    return embedder.fit_transform(bench.photos("test")[0])


def score(bench, prototypes, labels, seed):
    """Return the test accuracy of classifiers that train on prototypes, in float32."""
    X, y = bench.photos("test")
    settings = {"precision": "float32", "device": str(bench.device), "memory": bench.memory}
    probe = FrozenBackboneProbe(
        bench.backbone,
        n_views=bench.size(PROBE_VIEWS, 2),
        max_epochs=bench.size(1000, 20),
        random_state=seed,
        **settings,
    ).fit(prototypes, labels)
    rows = BackboneEmbedder(bench.backbone, **settings).fit_transform(prototypes)
    logistic = LogisticRegression(max_iter=10_000).fit(rows, labels)
    return {"probe": probe.score(X, y), "logistic": logistic.score(features_of_tests(bench), y)}


def accuracy(bench, seed, precision, steps):
    """Fit from files to prototypes, and score float32 classifiers that train on them.

    The learning rate ends with the steps that a fit has.
    """
    X, y = bench.photos("train")
    bench.warm_up(precision)
    distiller = bench.distiller(
        precision=precision, max_iter=bench.size(steps, 2), random_state=seed
    )
    _, seconds, peak = bench.measure(lambda: distiller.fit(X, y))
    scores = score(bench, distiller.prototypes_, distiller.prototype_labels_, seed)
    loss = float(distiller.loss_curve_[-1])
    return {"seconds": seconds, "peak_mib": peak, "loss": loss, **scores}


def recipe(bench, precision):
    """Run the published recipe on the same net and card, and compare times to its accuracy.

    In float32 a few steps, in the precision of a fit as many as there is time for.
    The goal is the best mean of three scores in a row. A fit reaches it with the fewest steps whose
    mean over seeds, by the part "accuracy" on this card and commit, is as high.
    """
    X, y = bench.photos("train")
    names, labels = np.unique(y, return_inverse=True)
    size = bench.backbone.image_size
    run = published_recipe.distil(
        BareNet(bench.backbone, precision),
        canvases(X, bench.backbone.canvas_size).to(bench.device),
        torch.from_numpy(labels).to(bench.device),
        len(names),
        image_size=size,
    )

    def advance(n):
        def steps():
            with torch.device(bench.device):  # where the recipe draws its random numbers
                return list(itertools.islice(run, n))[-1]

        return bench.measure(steps)[:2]

    advance(bench.size(6, 2))  # the prototypes before the first step are one of these
    pace = advance(bench.size(20, 1))[1] / bench.size(20, 1)
    facts = {"ms_a_step": 1e3 * pace, "seconds_of_5000": pace * published_recipe.STEPS}
    if precision == "float32":
        return facts
    n_steps, last, every = bench.size((25, published_recipe.STEPS, EVERY), (2, 4, 1))
    scores, seconds = [], pace * n_steps
    while n_steps < last and bench.left() > 12 + pace * every:
        n = min(every, last - n_steps)
        prototypes, more = advance(n)
        n_steps, seconds = n_steps + n, seconds + more
        images = prototypes.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        found = {"steps": n_steps, "seconds": seconds, **score(bench, images, names, 0)}
        bench.report(precision=precision, **found)
        scores.append(found)
    return {**facts, **ratio(bench, scores, precision)}


def ratio(bench, scores, precision):
    """Return how much sooner a fit has the recipe's best accuracy than the recipe itself."""
    if not scores:
        return {}
    last = [scores[max(0, i - 2) : i + 1] for i in range(len(scores))]
    means = [np.mean([one["probe"] for one in some]) for some in last]
    goal, seconds = max(means), scores[int(np.argmax(means))]["seconds"]
    fits = {}
    for row in bench.rows:
        if row["section"] == "accuracy" and row.get("precision") == precision and "probe" in row:
            fits.setdefault(row["steps"], []).append((row["probe"], row["seconds"]))
    reached = [np.mean(fits[n], 0)[1] for n in sorted(fits) if np.mean(fits[n], 0)[0] >= goal]
    found = {"goal": goal, "seconds_to_it": seconds}
    return found | ({"ours_s": reached[0], "ratio": seconds / reached[0]} if reached else {})


def accuracy_cases(seeds):
    """Return fits of each precision, and shorter ones in the default one, seed by seed."""
    fits = [(precision, STEPS) for precision in PRECISIONS]
    fits += [(AUTO, steps) for steps in SHORT_FITS]
    return [
        {"seed": seed, "precision": precision, "steps": steps}
        for seed in range(seeds)
        for precision, steps in fits
    ]


def parts(seeds):
    """Return the parts by name: what measures a case, the cases, and seconds that one may take."""
    low = ("bfloat16", "float16")
    sources, pools = ("arrays", "files"), ("CPU, one each", "GPU, one each", "GPU, one")
    times = ("cast each time", "cast before", PACKAGE, "cast before, CUDA graph")
    factors = (1, 2**10, 2**16, PACKAGE)
    scales = [(10, low[1], 1), (1000, low[0], 1), *((1000, low[1], s) for s in factors)]
    return {
        "net": (net, grid(precision=(*PRECISIONS, "TF32"), views=(VIEWS, 256)), 8),
        "tests": (tests, [{}], 60),
        "pass": (
            real_pass,
            grid(precision=PRECISIONS, images=sources, n_jobs=[8])
            + grid(precision=[AUTO], images=["files"], n_jobs=[1, 16]),
            10,
        ),
        "batches": (
            real_pass,
            grid(precision=[AUTO], images=sources, n_jobs=[8], batch_size=(64, 128, 256)),
            10,
        ),
        "decoding": (
            decoding,
            grid(n_jobs=(1, 4, 8, 16), by=["threads"]) + grid(n_jobs=(8, 16), by=["processes"]),
            10,
        ),
        "step": (step, grid(precision=PRECISIONS), 15),
        "memory": (memory, grid(batch_size=(8, 40, "auto")), 10),
        "classes": (
            classes,
            grid(n_classes=(10, 100, 1000), kind=["features"], heads=("random", "zero"))
            + grid(n_classes=(10, 100, 1000), kind=["photographs"], heads=["random"]),
            15,
        ),
        "draws": (draws, grid(what=("heads", "noise"), generators=pools), 3),
        "waits": (waits, grid(phase=("pass", "step")), 5),
        "cast": (cast, grid(precision=low, weights=times), 4),
        "scaling": (
            scaling,
            [dict(zip(("n_classes", "precision", "scale"), s, strict=True)) for s in scales],
            4,
        ),
        "determinism": (
            determinism,
            grid(precision=("bfloat16", "float32"), deterministic=(False, True)),
            10,
        ),
        "accuracy": (accuracy, accuracy_cases(seeds), 15),
        "processor": (processor, grid(precision=("float32", "bfloat16")), 15),
        "compiled": (compiled, grid(mode=("default", "reduce-overhead")), 45),
        "recipe": (recipe, grid(precision=("float32", AUTO)), 20),
    }


def main(argv=None):
    """Do the parts that are asked for, and write their tables."""
    arguments = parse(__doc__.partition("\n")[0], parts(1), argv)
    bench = Bench(arguments)
    with tempfile.TemporaryDirectory() as bench.memory:
        for name, (measure, cases, needs) in parts(arguments.seeds).items():
            if name in arguments.parts:
                bench.do(name, measure, cases, bench.size(needs, 0))
    text = tables(bench.rows, {name: one[0].__doc__ for name, one in parts(1).items()})
    print(text)
    if arguments.out:
        slug = re.sub(r"\W+", "_", bench.facts["card"].lower())
        (arguments.out / f"gpu_{slug}.md").write_text(text)
    return bench.rows


if __name__ == "__main__":
    main()
