"""The conda recipe says of versions and dependencies what the package itself says."""

import tomllib
from pathlib import Path

import yaml

import sklgm

ROOT = Path(__file__).parents[1]
# Conda's names of what is called otherwise among Python's packages.
NAMES = {"matplotlib": "matplotlib-base", "open_clip_torch": "open-clip-torch", "torch": "pytorch"}


def conda_requirement(requirement):
    name, bound = requirement.split(">=")
    return f"{NAMES.get(name, name)} >={bound}"


def test_it_needs_what_the_package_the_command_and_reports_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = yaml.safe_load((ROOT / "conda/recipe.yaml").read_text())
    parts = [
        project["dependencies"],
        *map(project["optional-dependencies"].get, ("cli", "plot", "report")),
    ]
    needed = {conda_requirement(r) for part in parts for r in part if not r.startswith("sklgm[")}
    python, *found = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    assert set(found) == needed
    assert project["requires-python"] == f">={recipe['context']['python_min']}"


def test_it_has_the_version_of_the_package_and_its_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = yaml.safe_load((ROOT / "conda/recipe.yaml").read_text())
    assert recipe["context"]["version"] == sklgm.__version__
    (entry,) = recipe["build"]["python"]["entry_points"]
    name, target = entry.split(" = ")
    assert project["scripts"] == {name: target}
