"""Docstrings and pages: complete, valid, with examples that run and options that exist."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import sklearn
import timm
import torch
import typer
from numpydoc.validate import validate
from PIL import Image

import sklgm
from sklgm.cli.app import app

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.rst"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.rst"))]
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
    page = {}
    found = blocks(ROOT / "docs" / "backbones.rst", "python")
    for word in ("save_pretrained", "last.ckpt"):
        (block,) = (block for block in found if word in block)
        exec(block, page)
    assert page["backbone"].fingerprint() == page["distiller"].backbone_fingerprint_


@pytest.mark.real
def test_the_page_on_inputs_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for name, colour in {"cat": "orange", "dog": "brown"}.items():
        Path("pictures", name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (40 + i, 40), colour).save(Path("pictures", name, f"{i}.png"))
    page = {}
    with sklearn.config_context():  # which the page sets
        for block in blocks(ROOT / "docs" / "inputs.rst", "python"):
            exec(block, page)
    assert page["distiller"].classes_.tolist() == ["cat", "dog"]
