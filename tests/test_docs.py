"""Docstrings and pages: complete, valid, with examples that run and options that exist."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn
import timm
import torch
import typer
from numpydoc.validate import validate
from PIL import Image

import sklgm
from sklgm.backbones._registry import REGISTRY
from sklgm.cli.app import app
from sklgm.utils.random import own_rng
from tests.library_nets import own_cache

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.rst"
FAMILIES = ROOT / "docs" / "backbones_by_family"
PAGES = [ROOT / "README.md", *sorted(PAGE.parent.glob("*.rst")), *sorted(FAMILIES.glob("*.rst"))]
# Of the packages that are public as a whole; of sklgm.images only what the page has.
PUBLIC = {
    "sklgm",
    "sklgm.alignment",
    "sklgm.bias",
    "sklgm.datasets",
    "sklgm.evaluation",
    "sklgm.plotting",
    "sklgm.report",
}
MODULES = [
    found.name
    for found in pkgutil.walk_packages(sklgm.__path__, "sklgm.")
    if found.name != "sklgm.__main__"
]
# Extended summaries where the first line says it all, examples of every method, and links from
# everything to something would be filler. docs/conf.py leaves out the same.
NOT_ASKED_FOR = {"ES01", "EX01", "SA01"}


def on_the_page():
    found, module = [], None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if at := re.match(r"\.\. (?:current)?module:: (\S+)", line):
            module = at[1]
        elif name := re.fullmatch(r"   (\w+)", line):
            found.append(f"{module}.{name[1]}")
    return found


def public_names():
    return sorted(f"{m}.{name}" for m in PUBLIC for name in importlib.import_module(m).__all__)


@pytest.mark.skipif(not PAGE.exists(), reason="not in a source distribution")
def test_every_public_name_is_on_the_page_of_the_api():
    found = on_the_page()
    assert len(found) == len(set(found))
    of_images = [name for name in found if name.startswith("sklgm.images.")]
    assert {name.rpartition(".")[2] for name in of_images} <= set(sklgm.images.__all__)
    assert sorted(set(found) - set(of_images)) == public_names()


def documented(name):
    """Yield a public name and, of a class, its own public methods and properties."""
    yield name
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    if inspect.isclass(value):
        ours = [base for base in value.__mro__ if base.__module__.startswith("sklgm.backbones")]
        for key, member in (pair for base in ours or [value] for pair in vars(base).items()):
            kinds = classmethod | staticmethod | property
            if key[0] != "_" and (inspect.isfunction(member) or isinstance(member, kinds)):
                yield f"{name}.{key}"


@pytest.mark.parametrize("name", public_names())
def test_docstrings_are_valid(name):
    faults = {
        f"{one}: {code} {text}"
        for one in documented(name)
        for code, text in validate(one)["errors"]
        if code not in NOT_ASKED_FOR
    }
    assert not faults


@pytest.mark.real
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    plt.switch_backend("agg")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    plt.close("all")
    assert not result.failed


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    counts = [len(t.examples) for m in MODULES for t in finder.find(importlib.import_module(m))]
    assert sum(counts) > 50


def blocks(page, *languages):
    """Return the code blocks of a page, reStructuredText or Markdown."""
    text = page.read_text(encoding="utf-8")
    kinds = "|".join(languages)
    fenced = re.findall(rf"^```(?:{kinds})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    directive = rf"^\.\. code-block:: (?:{kinds})\n\n((?: .*\n|\n)+)"
    return fenced + [textwrap.dedent(b) for b in re.findall(directive, text, re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_import_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("sklgm"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def joined(block):
    return block.replace("\\\n", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_on_pages_exist(page):
    commands = typer.main.get_command(app).commands
    for block in blocks(page, "sh", "bash"):
        for name, line in re.findall(r"(?m)^(?:.* -m )?sklgm ([a-z]+)\b(.*)", joined(block)):
            known = {option for p in commands[name].params for option in p.opts + p.secondary_opts}
            assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", line.partition("#")[0])) <= known, line


def test_nets_on_the_page_of_backbones_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = timm.create_model("resnet18", num_classes=3).state_dict()
    state = {f"model.{key}": value for key, value in state.items()}
    torch.save({"epoch": 1, "state_dict": state, "callbacks": {}}, "last.ckpt")
    file = ROOT / "docs" / "backbones.rst"
    page = {"X": np.random.default_rng(0).random((6, 40, 40, 3)), "y": ["cat", "dog"] * 3}
    (block,) = (one for one in blocks(file, "python") if 'checkpoint="last.ckpt"' in one)
    exec(block, page)
    assert page["backbone"].fingerprint() == page["distiller"].backbone_fingerprint_
    (name,) = re.findall(r'"(timm:resnet18@last\.ckpt.*?)"', file.read_text(encoding="utf-8"))
    assert sklgm.Backbone.from_name(name, image_size=64) is page["backbone"]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Work in a folder that has the folder "pictures", with three images of each of two classes."""
    monkeypatch.chdir(tmp_path)
    for name, colour in {"cat": "orange", "dog": "brown"}.items():
        Path("pictures", name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40 + i, 40), colour).save(Path("pictures", name, f"{i}.png"))


def stand_in(spec, image_size, pretrained, device):
    """Return a small net with as many features as that of a record, in place of `load_net`."""
    with own_rng():
        head = torch.nn.Linear(12, spec.n_features).requires_grad_(False)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), head)
    return net.to(device), torch.contiguous_format


@pytest.mark.skipif(not PAGE.exists(), reason="not in a source distribution")
@pytest.mark.parametrize("family", sorted({name.partition("_")[0] for name in REGISTRY}))
def test_each_family_of_backbones_has_a_page_that_runs(family, pictures, monkeypatch):
    """Names, sizes and files are the page's; nets, and sizes that it leaves out, are small ones."""
    page = FAMILIES / f"{family}.rst"
    assert f".. include:: /generated/backbones/{family}.inc" in page.read_text(encoding="utf-8")
    own_cache(monkeypatch)
    for name, spec in REGISTRY.items():
        small = replace(spec, image_size=2 * (spec.patch_size or 16))
        monkeypatch.setitem(REGISTRY, name, small)
    monkeypatch.setattr("sklgm.backbones._backbone.load_net", stand_in)
    monkeypatch.setitem(sklgm.LGMDistiller.__init__.__kwdefaults__, "max_iter", 1)
    for parameter in ("max_epochs", "n_views"):
        monkeypatch.setitem(sklgm.FrozenBackboneProbe.__init__.__kwdefaults__, parameter, 1)
    Path("vit-b-300ep.pth.tar").write_bytes(b"weights")
    (block,) = blocks(page, "python")
    exec(block, found := {})
    assert set(found["y"]) == {"cat", "dog"}


@pytest.mark.real
def test_the_page_on_inputs_runs(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    page = {}
    with sklearn.config_context():  # which the page sets
        for block in blocks(ROOT / "docs" / "inputs.rst", "python"):
            exec(block, page)
    assert page["distiller"].classes_.tolist() == ["cat", "dog"]
