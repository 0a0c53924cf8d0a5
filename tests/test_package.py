"""The package as pip installs it: a wheel in an environment of its own, used from another folder."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import efficientconv
from conftest import ROOT, SMALL_RUN

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {"torch", "numpy", "pydantic", "pyyaml", "safetensors"}


def run(*command: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    names = {"PATH", "HOME", "XDG_CACHE_HOME", "OMP_NUM_THREADS", "CXX"}
    own = {name: value for name, value in os.environ.items() if name in names}
    return subprocess.run([*map(str, command)], cwd=cwd, env=own | env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment that has this package, built and installed as a wheel, and the tests' own packages."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = run(*pip, "wheel", ROOT, "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, cwd=folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("efficientconv-*.whl")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder).returncode == 0
    python = folder / "venv" / "bin" / "python"
    done = run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip()
    (Path(site) / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def test_a_wheel_trains_and_evaluates_from_another_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "efficientconv-train", *SMALL_RUN, "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning") == 0, "the C++ sources are in it"
    summary = (tmp_path / "run" / "summary.json").read_text()
    assert '"git_commit": null' in summary + (tmp_path / "run" / "environment.json").read_text()
    named = run(installed / "python", "-c", "import efficientconv as ec; print(*ec.list_weights())", cwd=tmp_path)
    assert "c_cifar10" in named.stdout.split(), named.stderr
    evaluated = run(installed / "efficientconv-eval", "run=run", cwd=tmp_path)
    top1 = re.search(r'"top1_percent": ([\d.]+)', summary)[1]
    assert evaluated.returncode == 0 and f"{float(top1):.2f}" in evaluated.stdout


def test_the_package_says_its_version_and_what_a_bug_report_needs(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "python", "-m", "efficientconv.info", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if not line.startswith("native"))
    assert told["efficientconv"].startswith(f"{efficientconv.__version__} at {installed.parent}")
    assert {"python", "torch", "numpy", "cpu", "threads", "gpus"} <= set(told)
    assert re.search("^native kernels +(compiled|not yet compiled)", done.stdout, re.MULTILINE)


def test_a_bug_report_can_be_made_without_torch_and_the_rest(tmp_path: Path) -> None:
    """An environment with nothing but the package's own files."""
    assert run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path).returncode == 0
    bare = tmp_path / "venv" / "bin" / "python"
    done = run(bare, "-m", "efficientconv.info", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert re.search("^torch +not installed$", done.stdout, re.MULTILINE) and "platform" in done.stdout


def test_version_and_licence_are_one_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == efficientconv.__version__ and citation["license"] == PROJECT["license"] == "MIT"
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:1608.04337"


# ---------------------------------------------------------------- what an import brings


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("efficientconv", {"torch", "numpy"}),
        ("efficientconv.layers", {"torchvision", "pydantic", "yaml", "PIL", "scipy", "hydra", "omegaconf"}),
        ("efficientconv.models", {"torchvision", "PIL", "scipy", "hydra", "omegaconf"}),
        *((f"scripts.{name}", {"torch", "matplotlib", "hydra"}) for name in ("report", "runs", "table", "track")),
    ],
)
def test_an_import_brings_no_more_than_it_needs(module: str, without: set[str]) -> None:
    code = f"import sys; sys.path.append('scripts'); import {module}; print(*sys.modules)"
    loaded = run(sys.executable, "-c", code, cwd=ROOT)
    assert loaded.returncode == 0 and not without & set(loaded.stdout.split()), loaded.stderr


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("import efficientconv as ec; ec.load_run('run')", "simplejpeg"),
        ("import efficientconv as ec; ec.create_model('resnet18')", "torchvision"),
        ("import efficientconv.commands; efficientconv.commands.train()", "hydra"),
    ],
)
def test_what_an_extra_would_bring_is_said(code: str, missing: str) -> None:
    done = run(sys.executable, "-c", f"import sys; sys.modules['{missing}'] = None; {code}", cwd=ROOT)
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"rror: {missing} is not installed: pip install 'efficientconv[train]'") and done.returncode != 0
    assert missing != "hydra" or done.returncode == 2 and len(done.stderr.splitlines()) == 1


def undeclared(files: list[Path], declared: set[str]) -> set[str]:
    """Third-party modules that they import, at their top or anywhere else, of distributions that are not declared."""
    modules = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    foreign = modules - sys.stdlib_module_names - {"efficientconv", "checkout"}
    return {name for name in foreign if not declared & {distribution.lower() for distribution in known[name]}}


LIGHT = ("deploy", "layers", "native", "models")  # packages that need the core only


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0].lower() for line in requirements}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot tell which package a module is of")
def test_every_package_that_is_imported_is_declared() -> None:
    package, scripts = ROOT / "efficientconv", ROOT / "scripts"
    extras = names([line for lines in PROJECT["optional-dependencies"].values() for line in lines])
    assert names(PROJECT["dependencies"]) == CORE
    light = [*package.glob("*.py"), *(file for folder in LIGHT for file in package.glob(f"{folder}/*.py"))]
    heavy = ("cli.py", "overrides.py", "commands.py", "export.py", "progress.py", "timing.py", "torchvision_models.py")
    assert not undeclared([file for file in light if file.name not in heavy], CORE)
    come_with_them = {"joblib", "protobuf", "triton"}  # with Hydra's launcher, with W&B, with torch for CUDA
    assert not undeclared([*package.rglob("*.py"), *scripts.glob("*.py")], CORE | extras | come_with_them)
    pinned = names([line for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#"])
    assert extras - {"efficientconv"} <= pinned, "what an extra names is tested"


def test_a_start_does_not_wait_for_torchvision() -> None:
    """Which takes as long to import as torch, and which only some sets of images and networks need."""
    modules = ("cli", "engine.run", "engine.evaluate_run")
    code = f"import sys, {', '.join(f'efficientconv.{name}' for name in modules)}; print('torchvision' in sys.modules)"
    assert run(sys.executable, "-c", code, cwd=ROOT).stdout == "False\n"
