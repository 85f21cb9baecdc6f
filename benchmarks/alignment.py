"""Does alignment tell where prototypes transfer? OpenMoji pictures, four trained nets.

Prototypes are distilled on each net from the training pictures. Each set is then measured on every
net: by the accuracy of a probe on pictures held back, over that of a probe on all training
pictures; and by gradient alignment with the training pictures. Beside these stands the alignment of
the nets' features on the training pictures, by mutual nearest neighbours and linear CKA. The 12
pairs of different nets are correlated; figures are means over seeds.

With ``--photos FOLDER`` the features are those of CLIP and other nets at 224 pixels on one
photograph of each class of ImageNet, ``FOLDER/imagenet-sample/*.jpg``, and the accuracies are those
that ``benchmarks/photographs.py --transfer`` wrote, as far as it has.

Run: ``python benchmarks/alignment.py``; ``--quick`` is a short trial that saves nothing.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from _data import load
from _results import read, save
from photographs import NETS as NETS_OF_PHOTOGRAPHS
from transfer import NETS

from sklgm import BackboneEmbedder, FrozenBackboneProbe, LGMDistiller, PrototypeSet
from sklgm.alignment import (
    alignment_matrix,
    gradient_alignment_matrix,
    relate_alignment_to_transfer,
)
from sklgm.evaluation import TransferMatrix, compare_selections
from sklgm.evaluation._transfer import with_relative_accuracy

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.real_backbones import real_backbone


def run(seed, nets, data, arguments, folder):
    """Return the transfer records of a seed and its gradient alignment."""
    X, X_test, y, y_test = data
    few = 10 if arguments.quick else 100
    settings = {"max_iter": few, "memory": folder, "random_state": seed}
    sets = {}
    for name, net in nets.items():
        sets[name] = PrototypeSet.from_estimator(LGMDistiller(net, **settings).fit(X, y))
        print(f"seed {seed}: distilled on {name}", flush=True)
    probe = FrozenBackboneProbe(n_views=16, memory=folder, max_epochs=few * 5)
    records = []
    for column, net in nets.items():
        found = compare_selections(
            X,
            y,
            X_test,
            y_test,
            backbone=net,
            selections={**sets, "all": None},
            probe=probe,
            n_probe_seeds=2,
        ).records
        for one in found:
            home = None if one["selection"] == "all" else one["selection"] == column
            facts = {"backbone": column, "at_home": home, "distillation_seed": seed}
            records.append({**one, **facts})
        print(f"seed {seed}: probed on {column}", flush=True)
    gradients = gradient_alignment_matrix(sets, X, y, backbones=nets, random_state=100 + seed)
    return with_relative_accuracy(records), gradients


def coefficients(found):
    """Return both correlations with their intervals, as cells of a table."""
    return " | ".join(
        f"{c.statistic:.2f} ({c.low:.2f} to {c.high:.2f})" for c in (found.pearson, found.spearman)
    )


def transfer_of_photographs(data):
    """Return the transfer matrix of a set, from the runs on photographs."""
    records = []
    for line in read("photographs"):
        if line["data"] != data or line["selection"] not in ("distilled", "all"):
            continue
        distilled = line["selection"] == "distilled"
        records.append(
            {
                "selection": line["home"] if distilled else "all",
                "backbone": line["net"],
                "at_home": line["home"] == line["net"] if distilled else None,
                "accuracy": float(line["probe"]),
            }
        )
    return TransferMatrix(with_relative_accuracy(records))


def on_photographs(arguments):
    """Align the nets on photographs, and correlate with the transfer that was measured."""
    photos = sorted((arguments.photos / "imagenet-sample").glob("*.jpg"))
    X = [str(path) for path in photos[:: 50 if arguments.quick else 1]]
    nets = {name: real_backbone(net, None, 224) for name, net in NETS_OF_PHOTOGRAPHS.items()}
    transfers = {data: transfer_of_photographs(data) for data in ("imagewoof", "flowers5", "pacs")}
    tables, records, lines = {}, [], []
    with tempfile.TemporaryDirectory() as folder:
        for metric in ("mutual_knn", "linear_cka"):
            embedder = BackboneEmbedder(memory=folder)
            alignment = alignment_matrix(nets, X, metric=metric, embedder=embedder, random_state=0)
            title = metric.replace("_", " ")
            for values in ("scores", "calibrated"):
                tables[f"{title}, {values}"] = alignment.to_markdown(values=values)
            for data, transfer in transfers.items():
                found = relate_alignment_to_transfer(
                    alignment, transfer, values="calibrated", random_state=0
                )
                lines.append(f"| {title} | {data} | {len(found.pairs)} | {coefficients(found)} |")
                records += [
                    {"metric": metric, "data": data, "home": home, "net": net}
                    | {"alignment": float(x), "relative_accuracy": float(y)}
                    for (home, net), x, y in zip(
                        found.pairs, found.alignment, found.transfer, strict=True
                    )
                ]
    titles = ["| alignment | transfer on | pairs | Pearson | Spearman |", "| :-- " * 5 + "|"]
    tables["Correlation over pairs, with bootstrap intervals"] = "\n".join([*titles, *lines])
    for heading, table in tables.items():
        print(heading, table, sep="\n")
    if not arguments.quick:
        save("alignment_photographs", records, tables, script="alignment")


def main():
    """Run on each seed, and correlate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few pictures and steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photos", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = [0]
    torch.set_num_threads(arguments.threads)
    if arguments.photos:
        on_photographs(arguments)
        return
    data = load("openmoji", quick=arguments.quick)
    with tempfile.TemporaryDirectory() as folder:
        nets = {name: real_backbone(net, folder) for name, net in NETS.items()}
        runs = [run(seed, nets, data, arguments, folder) for seed in arguments.seeds]
        features = {
            metric: alignment_matrix(nets, data[0], metric=metric, random_state=0)
            for metric in ("mutual_knn", "linear_cka")
        }
    transfer = TransferMatrix(tuple(record for records, _ in runs for record in records))
    means = np.mean([gradients.scores for _, gradients in runs], axis=0)
    alignments = {"gradient alignment": replace(runs[0][1], scores=means), **features}
    tables = {"Relative accuracy": transfer.to_markdown(metric="relative_accuracy")}
    lines = ["| alignment | Pearson | Spearman |", "| :-- | --: | --: |"]
    records = list(transfer.records)
    for name, alignment in alignments.items():
        values = "scores" if name == "gradient alignment" else "calibrated"
        tables[f"{name.replace('_', ' ')}, {values}"] = alignment.to_markdown(values=values)
        found = relate_alignment_to_transfer(alignment, transfer, values=values, random_state=0)
        lines.append(f"| {name.replace('_', ' ')} | {coefficients(found)} |")
        records += [
            {"selection": row, "backbone": column, "alignment": name, "value": float(x)}
            for (row, column), x in zip(found.pairs, found.alignment, strict=True)
        ]
    tables["Correlation over the 12 pairs, with bootstrap intervals"] = "\n".join(lines)
    for heading, table in tables.items():
        print(heading, table, sep="\n")
    if not arguments.quick:
        save("alignment", records, tables)


if __name__ == "__main__":
    main()
