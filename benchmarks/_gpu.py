"""What `gpu.py` measures with: the budget of time, the clock, the net, and where figures go."""

import argparse
import copy
import datetime
import functools
import itertools
import json
import os
import re
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sklgm import LGMDistiller
from sklgm.backbones import Backbone
from sklgm.datasets import load_folder
from sklgm.images import check_images, resize_crop
from sklgm.synthesis import BatchSize

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone

ROOT = Path(__file__).parents[1]
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What precision="auto" is on a GPU.
AUTO = "bfloat16"
# Views of a step on ten classes: of one prototype each, its centre crop and three random ones.
VIEWS = 40
FACTS = ("card", "torch", "commit", "run", "section")
RESULTS = Path(__file__).parent / "results"


class Bench:
    """One run: its device, its net and photographs, and the time that it may take.

    Parameters
    ----------
    arguments : Namespace
        The options.
    """

    def __init__(self, arguments):
        self.start = time.monotonic()
        self.options, self.quick = arguments, arguments.quick
        self.device = torch.device(arguments.device)
        self.cuda = self.device.type == "cuda"
        self.section = "machine"
        now = datetime.datetime.now(datetime.UTC)
        self.facts = {
            "card": torch.cuda.get_device_name(self.device) if self.cuda else "cpu",
            "torch": torch.__version__,
            "commit": arguments.commit or commit(),
            "run": now.isoformat(timespec="seconds"),
        }
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
        self.path = arguments.out and arguments.out / "gpu.jsonl"
        known = read(self.path) if self.path and self.path.exists() else []
        same = ("card", "torch", "commit")
        self.rows = [row for row in known if all(row.get(k) == self.facts[k] for k in same)]

    def left(self):
        """Return the seconds that are left."""
        return 60 * self.options.minutes - (time.monotonic() - self.start)

    def report(self, **figures):
        """Print figures, and add them to the results at once."""
        row = {**self.facts, "section": self.section, **rounded(figures)}
        at = time.monotonic() - self.start
        print(f"{at:4.0f} s", self.section, json.dumps(rounded(figures)), flush=True)
        self.rows.append(row)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def do(self, section, function, cases, needs):
        """Measure the cases of a part one by one, while there are seconds enough for one more.

        Parameters
        ----------
        section : str
            Name of the part.
        function : callable
            Takes this object and what makes a case; returns its figures. An error ends the case.
        cases : iterable of dict
            The cases.
        needs : float
            Seconds that a case may take.
        """
        self.section = section
        cases = list(cases)
        for done, case in enumerate(cases):
            if self.left() < needs:
                self.report(no_time_for=f"{len(cases) - done} of {len(cases)} cases")
                return
            try:
                figures = function(self, **case)
            except Exception as error:
                traceback.print_exc()
                figures = {"error": f"{type(error).__name__}: {error}"[:300]}
            self.report(**case, **figures)
            if self.cuda:
                torch.cuda.empty_cache()

    def size(self, full, quick):
        """Return one of two sizes, the second in a trial."""
        return quick if self.quick else full

    def measure(self, function, repeat=1):
        """Return what a function returns, its median seconds, and its peak of memory in MiB."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds = []
        for _ in range(repeat):
            self.wait()
            start = time.perf_counter()
            result = function()
            self.wait()
            seconds.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if self.cuda else None
        return result, float(np.median(seconds)), peak

    def seconds(self, function, repeat=9, warm=3):
        """Return the median seconds of a function that was called before."""
        for _ in range(self.size(warm, 1)):
            function()
        return self.measure(function, self.size(repeat, 1))[1]

    def wait(self):
        """Wait until the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    @functools.cached_property
    def backbone(self):
        """CLIP ViT-B/16 on the device; in a trial without weights a tiny ViT."""
        if self.quick and not self.options.weights:
            backbone = Backbone.from_name("timm:test_vit", image_size=32, pretrained=False)
        else:
            backbone = real_backbone("clip_vitb16_8bit", None, self.size(224, 64))
        return backbone.to(self.device)

    def photos(self, part, times=1):
        """Return paths and labels of the training or test photographs, some times over."""
        X, y = load_folder(self.options.photos / "imagewoof" / part, return_X_y=True)
        step = self.size(1, max(1, len(X) // 40))
        return list(X[::step]) * times, np.tile(y[::step], times)

    @functools.cached_property
    def decoded(self):
        """The training photographs as bytes of the size that views are cut from."""
        size = self.backbone.canvas_size
        X, _ = self.photos("train")
        return np.stack([resize_crop(image, size) for image in check_images(X)])

    def distiller(self, *, features=False, **params):
        """Return a distiller on the device, of photographs by CLIP or of features."""
        settings = {"n_jobs": 8, "random_state": 0, "device": str(self.device)}
        return LGMDistiller(None if features else self.backbone, **{**settings, **params})

    @functools.cache  # noqa: B019
    def warm_up(self, precision):
        """Do once what only the first fit of a process takes."""
        self.distiller(precision=precision, max_iter=2).fit(*self.photos("train"))

    def pixels(self, n):
        """Return n smooth random images on the device."""
        small = torch.rand(n, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        size = self.backbone.image_size
        large = torch.nn.functional.interpolate(small, size=size, mode="bicubic")
        return large.clamp(0, 1).to(self.device)

    @functools.cache  # noqa: B019
    def matmul(self, precision):
        """Return the FLOP/s of a large product of random matrices: a peak that can be reached."""
        n = self.size(8192, 256)
        a = torch.randn(n, n, device=self.device).to(PRECISIONS.get(precision) or torch.float32)
        with tf32(precision == "TF32"):
            return 2 * n**3 / self.seconds(lambda: a @ a)

    @functools.cache  # noqa: B019
    def views_per_second(self, precision, n=None):
        """Return how many images pass the net alone, n at once, or as many as in a pass."""
        n = n or self.size(BatchSize.auto(self.backbone.image_size, self.device).images, 2)
        alone, pixels = BareNet(self.backbone, precision), self.pixels(n)
        with torch.no_grad():
            return n / self.seconds(lambda: alone(pixels))

    @functools.cached_property
    def flops(self):
        """FLOPs of an image forward, and of its way back, as torch counts those of products."""
        pixels = self.pixels(2).requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # others hide their products on some devices
            with FlopCounterMode(display=False) as forward:
                features = BareNet(self.backbone)(pixels)
            with FlopCounterMode(display=False) as back:
                features.sum().backward()
        return forward.get_total_flops() / 2, back.get_total_flops() / 2


def grid(**values):
    """Return a case for each combination of values."""
    return [dict(zip(values, case, strict=True)) for case in itertools.product(*values.values())]


class BareNet:
    """A backbone's module on pixels in [0, 1], with nothing of sklgm around it.

    Parameters
    ----------
    backbone : Backbone
        Whose module and normalisation these are.
    precision : str, default="float32"
        Of autocast.
    cast : bool, default=False
        Whether to hold a copy whose large weights have that precision already.
    """

    def __init__(self, backbone, precision="float32", cast=False):
        self.dtype, self.device = PRECISIONS.get(precision), backbone.device
        self.module = backbone.module
        mean, std = (torch.tensor(v) for v in (backbone.spec.mean, backbone.spec.std))
        self.mean, self.std = (v.view(1, 3, 1, 1).to(self.device) for v in (mean, std))
        if cast:
            self.module = copy.deepcopy(self.module)
            large = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.MultiheadAttention)
            for part in self.module.modules():
                for weight in part.parameters(recurse=False) if isinstance(part, large) else ():
                    weight.data = weight.data.to(self.dtype)

    def __call__(self, pixels):
        settings = {"enabled": self.dtype is not None, "cache_enabled": False}  # none in a graph
        with torch.autocast(self.device.type, self.dtype, **settings):
            return self.module((pixels - self.mean) / self.std).float()


def pull_back(net, pixels, by_features, scale=1.0):
    """Return the gradient of pixels, given that of the features, scaled on its way."""
    leaf = pixels.detach().requires_grad_()
    net(leaf).backward(by_features * scale)
    return leaf.grad / scale


def cosines(a, b):
    """Return how alike the rows of two tensors are."""
    cos = torch.nn.functional.cosine_similarity(a.flatten(1).double(), b.flatten(1).double())
    return {"cos_least": float(cos.min()), "cos_mean": float(cos.mean())}


@contextmanager
def tf32(allowed):
    """Allow or forbid TF32 in products and convolutions."""
    settings = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting in settings:
            setting.allow_tf32 = allowed
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.allow_tf32 = value


def commit():
    """Return the commit of this working tree, with a mark where it was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def rounded(value):
    """Return figures with four digits that count, without those that are None."""
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items() if v is not None}
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value


def read(path):
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def tables(rows, reasons):
    """Return the newest figures of each part as Markdown.

    Parameters
    ----------
    rows : list of dict
        What was reported, of one card.
    reasons : dict of str to str
        By section, what its table shows.
    """
    text = [f"# {rows[-1]['card']}", "By `benchmarks/gpu.py`: the newest figures of each part."]
    for section, reason in reasons.items():
        own = [row for row in rows if row["section"] == section]
        if own:
            own = [row for row in own if row["run"] == own[-1]["run"]]
            facts = ", ".join(f"{name} {own[0][name]}" for name in ("torch", "commit", "run"))
            text += [f"## {section}", re.sub(r"\s+", " ", reason.strip()), table(own), facts]
    return "\n\n".join(text) + "\n"


def table(rows):
    """Return rows as a Markdown table of their figures."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in FACTS))
    lines = [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]
    for row in rows:
        cells = (str(row.get(name, "")).replace("|", "/") for name in names)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(description, parts, argv=None):
    """Return the options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--weights",
        default=os.environ.get("SKLGM_WEIGHTS"),
        metavar="FOLDER",
        help="where benchmarks/weights.py wrote those of CLIP (SKLGM_WEIGHTS)",
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=7.5, help="nothing begins after them")
    parser.add_argument(
        "--parts",
        type=lambda text: text.split(","),
        default=list(parts),
        metavar="A,B",
        help=",".join(parts),
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--commit", help="where there is no git to ask")
    parser.add_argument("--quick", action="store_true", help="a trial of tiny sizes, not saved")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="not the folder of results")
    arguments = parser.parse_args(argv)
    for name in set(arguments.parts) - set(parts):
        parser.error(f"--parts: {name!r} is none of {', '.join(parts)}.")
    if arguments.weights:
        os.environ["SKLGM_WEIGHTS"] = arguments.weights
    if not (arguments.out or arguments.quick):
        arguments.out = RESULTS
    return arguments
