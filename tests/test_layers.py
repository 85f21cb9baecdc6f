"""Who may import whom, read from the source."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import sklgm

ROOT = Path(sklgm.__file__).parent
FILES = {
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(ROOT.rglob("*.py"))
}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


def imported(nodes, module):
    """Names of the modules that import statements among the nodes load."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                found.add(inside if inside in FILES else base)
    return found


def everywhere(module):
    """All imports of a module, those inside functions too."""
    return imported(ast.walk(TREES[module]), module)


def run_at_import(node):
    """Walk what runs when a module is imported: no bodies of functions, no types-only imports."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = node.orelse
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
        children = [*defaults, *getattr(node, "decorator_list", [])]
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield child
        yield from run_at_import(child)


def modules_in(package):
    found = [m for m in FILES if m == package or m.startswith(f"{package}.")]
    assert found
    return found


def is_in(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


# From the ground up: a room imports what is below its line, and itself.
ROOMS = (
    ("utils", "images"),
    ("backbones", "matching", "datasets"),
    ("synthesis",),
    ("prototypes", "passes"),
    ("checkpoint",),
    ("estimators",),
    ("plotting",),
    ("evaluation", "alignment", "bias"),
    ("report",),
    ("cli",),
)
FLOOR = {f"sklgm.{room}": floor for floor, rooms in enumerate(ROOMS) for room in rooms}
# What the engine needs of other packages.
OUTSIDE = {
    "sklgm.matching": ("torch", "numpy", "safetensors", "sklearn.utils"),
    "sklgm.synthesis": ("torch", "numpy", "sklearn.base", "sklearn.utils"),
}


def room_of(module):
    return ".".join(module.split(".")[:2])


def test_there_is_something_to_read():
    assert {"sklgm", "sklgm.estimators.distiller", "sklgm.matching.real", *FLOOR} <= FILES.keys()
    assert "sklgm.matching.gradients" in everywhere("sklgm.matching.real")
    assert "sklgm.backbones._timm" in everywhere("sklgm.backbones._libraries")
    assert "timm" in everywhere("sklgm.backbones._timm")


def test_every_file_is_in_a_room():
    outside = {module for module in FILES if room_of(module) not in FLOOR}
    assert outside == {"sklgm", "sklgm.__main__", "sklgm._version"}


@pytest.mark.parametrize("room", FLOOR)
def test_arrows_point_downwards(room):
    for module in modules_in(room):
        ours = {name for name in everywhere(module) if is_in(name, ["sklgm"])}
        # The command is built on the public names, as a user's script is.
        ours -= {"sklgm._version", "sklgm" if room == "sklgm.cli" else ""}
        below = [other for other, floor in FLOOR.items() if floor < FLOOR[room]]
        wrong = {name for name in ours if not is_in(name, [room, *below])}
        assert not wrong, f"{module} imports {sorted(wrong)}"


@pytest.mark.parametrize("room", OUTSIDE)
def test_the_engine_needs_little(room):
    for module in modules_in(room):
        wrong = {
            name
            for name in everywhere(module)
            if not is_in(name, ["sklgm", *OUTSIDE[room], *sys.stdlib_module_names])
        }
        assert not wrong, f"{module} imports {sorted(wrong)}"


def test_no_cycles():
    """Not even by imports inside functions."""
    graph = {
        module: {name for name in everywhere(module) if name in FILES} - {module}
        for module in FILES
    }
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == FILES.keys()


GLOBAL_STATE = {
    "set_num_threads",
    "set_num_interop_threads",
    "set_default_device",
    "set_default_dtype",
    "set_grad_enabled",
    "use_deterministic_algorithms",
    "manual_seed",
    "seed",
}


@pytest.mark.parametrize("module", FILES)
def test_importing_chooses_no_device_and_sets_no_state(module):
    for node in run_at_import(TREES[module]):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node)
        name = ast.unparse(node.func)
        # A name for the CPU chooses nothing.
        assert not name.endswith("torch.device") or call == "torch.device('cpu')", call
        assert not name.startswith(("torch.cuda", "torch.mps")), call
        assert name.rpartition(".")[2] not in GLOBAL_STATE, call


def test_import_is_light():
    """Public names are imported when they are asked for, and none of them needs an extra."""
    script = (
        "import sys, sklgm\n"
        "assert {*sklgm.__all__} <= {*dir(sklgm)}\n"
        "assert not hasattr(sklgm, 'LGMDistillers')\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "state, threads = torch.get_rng_state(), torch.get_num_threads()\n"
        "assert sklgm.images.check_images\n"
        "from sklgm import *\n"
        "from sklgm.estimators import distiller\n"
        "assert LGMDistiller is sklgm.LGMDistiller is distiller.LGMDistiller\n"
        "assert all(name in globals() for name in sklgm.__all__)\n"
        "import sklgm.alignment, sklgm.evaluation, sklgm.plotting\n"
        "heavy = {'timm', 'open_clip', 'torchvision', 'transformers'}\n"
        "heavy |= {'matplotlib', 'typer', 'jinja2', 'imblearn'}\n"
        "assert torch.equal(torch.get_rng_state(), state)\n"
        "assert torch.get_num_threads() == threads\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
