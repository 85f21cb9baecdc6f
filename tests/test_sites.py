"""The places of an example, in processes of their own, share sums of gradients and no picture."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklgm import LGMDistiller, PrototypeSet, RandomHeads, RealGradients
from sklgm.datasets import load_folder
from tests.image_checks import save_images, toy_images
from tests.tiny_backbones import tiny_backbone

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plot_folders_and_sites.py"
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="not in a source distribution")

places = ["north", "south"]
settings = {
    "backbone": tiny_backbone(),
    "heads": RandomHeads(2, 4),
    "max_iter": 2,
    "random_state": 0,
}
AGREED = "from tests.test_sites import note_pictures, places, settings\nnote_pictures()\n"


def note_pictures():
    """Write down, in the folder that a process is given, which pictures it opens."""
    notes = Path(sys.argv[1], "opened")
    notes.touch()

    def note(event, arguments):
        if event == "open" and str(arguments[0]).endswith(".png"):
            with notes.open("a") as file:
                print(arguments[0], file=file)

    sys.addaudithook(note)


def scripts():
    """Return the scripts that the example writes, by the names of their constants."""
    body = ast.parse(EXAMPLE.read_text()).body
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    texts = {ast.unparse(node.targets[0]): node.value for node in assigned}
    return {name: ast.literal_eval(texts[name]) for name in ("PLACE", "MEETING")}


def start(script, own, sums):
    """Start a process that is told of its own folder and of the one for sums."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, script, own, sums], env=env)


def opened(own):
    return sorted(Path(line) for line in (own / "opened").read_text().splitlines())


def test_three_processes_share_sums_alone(tmp_path):
    X, y = toy_images()
    code, sums, meeting = (tmp_path / name for name in ("code", "sums", "meeting"))
    for new in (code, sums, meeting, tmp_path / "flat"):
        new.mkdir()
    (code / "agreed.py").write_text(AGREED)
    for name, text in scripts().items():
        (code / f"{name}.py").write_text(text)
    for i, path in enumerate(save_images(X, tmp_path / "flat")):
        target = tmp_path / places[i % 3 == 0] / y[i] / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(path).rename(target)
    folders = [tmp_path / place for place in places]
    parts = [load_folder(folder, return_X_y=True) for folder in folders]
    pictures, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    whole = LGMDistiller(**settings).compute_gradients(pictures, labels)

    running = [start(code / "PLACE.py", folder, sums) for folder in folders]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    for folder, (own, _) in zip(folders, parts, strict=True):
        assert opened(folder) == sorted(map(Path, own))
        shutil.rmtree(folder)
    shared = {f"{place}.{kind}" for place in places for kind in ("json", "safetensors")}
    assert {path.name for path in sums.iterdir()} == shared

    assert start(code / "MEETING.py", meeting, sums).wait(timeout=300) == 0
    assert opened(meeting)  # its own prototypes
    assert all(meeting in path.parents for path in opened(meeting))
    merged = RealGradients.load(meeting / "merged.safetensors")
    assert_allclose(merged.sums, whole.sums, rtol=0, atol=1e-5 * float(whole.sums.abs().max()))
    assert_allclose(merged.mean_images(), whole.mean_images(), atol=1e-6)
    assert_array_equal(merged.images_seen, whole.images_seen)
    assert PrototypeSet.load(meeting / "prototypes").classes.tolist() == ["a", "b", "c"]
