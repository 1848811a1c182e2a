"""csrc/ as a C++ package: copied to an empty folder it is installed, found and added, by a program of 24 lines."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import stale_edge

ROOT = Path(__file__).resolve().parents[1]
CONSUMER = ROOT / "export" / "cpp-consumer"
BIN = Path(sys.executable).parent
EXPECTED = ["pick 0 0.9", "pick 2 0.7"]
"""Of hard NMS: row 1 covers row 0."""

pytestmark = pytest.mark.skipif(
    not (ROOT / "csrc").is_dir()
    or not (BIN / "cmake").is_file()
    or not Path("/usr/include/nlohmann/json.hpp").is_file(),
    reason="needs a checkout, cmake, ninja and nlohmann-json3-dev",
)


def _run(*command: str | Path, ok: bool = True) -> str:
    path = f"{BIN}:/usr/bin:/bin"
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env={"PATH": path}
    )
    assert (done.returncode == 0) == ok, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def _configure(source: Path, build: Path, *settings: str, ok: bool = True) -> str:
    return _run("cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_CXX_FLAGS=-O0", *settings, ok=ok)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("consumed") / "bundle")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built and installed from a copy of csrc/ that has nothing beside it."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    _configure(folder / "csrc", folder / "build", f"-DCMAKE_INSTALL_PREFIX={folder / 'prefix'}")
    _run("cmake", "--build", folder / "build")
    _run("cmake", "--install", folder / "build")
    shutil.rmtree(folder / "csrc")
    return folder / "prefix"


def _check(program: Path, bundle: Path) -> None:
    names = [f"class {name}" for name in stale_edge.load_bundle(bundle).class_bank.names]
    assert _run(program, bundle).splitlines() == names + EXPECTED
    assert "usage: consumer BUNDLE" in _run(program, "--help")
    assert "error: " in _run(program, bundle.parent / "absent", ok=False)


def test_an_installed_package_is_found(prefix: Path, bundle: Path, tmp_path: Path) -> None:
    project = shutil.copytree(CONSUMER, tmp_path / "consumer")
    _configure(project, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    _run("cmake", "--build", tmp_path / "build")
    _check(tmp_path / "build" / "consumer", bundle)


def test_a_version_that_does_not_fit_is_refused(prefix: Path, tmp_path: Path) -> None:
    project = shutil.copytree(CONSUMER, tmp_path / "consumer")
    text = (project / "CMakeLists.txt").read_text()
    (project / "CMakeLists.txt").write_text(text.replace("stale_edge 0.2 ", "stale_edge 0.3 "))
    assert "0.2.0" in _configure(project, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}", ok=False)


def test_a_copied_folder_is_added(bundle: Path, tmp_path: Path) -> None:
    project = shutil.copytree(CONSUMER, tmp_path / "consumer")
    shutil.copytree(ROOT / "csrc", project / "csrc")
    _configure(project, tmp_path / "build")
    _run("cmake", "--build", tmp_path / "build", "--target", "consumer")
    _check(tmp_path / "build" / "consumer", bundle)


@pytest.mark.skipif(
    shutil.which("pkg-config") is None or shutil.which("g++") is None, reason="needs pkg-config and g++"
)
def test_pkg_config_gives_the_flags_of_the_core(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(
        '#include "stale_core.hpp"\n'
        "int main() { double s[2] = {0, 1}, t = 0; stale::tiou(s, 1, s, 1, &t); return t < 1; }\n"
    )
    (found,) = prefix.glob("lib*/pkgconfig")
    flags = _run("env", f"PKG_CONFIG_PATH={found}", "pkg-config", "--cflags", "--libs", "stale_edge = 0.2.0").split()
    _run("g++", "-std=c++17", tmp_path / "main.cpp", *flags, "-o", tmp_path / "program")
    _run(tmp_path / "program")


def test_every_package_has_the_same_version() -> None:
    cmake = re.search(r"project\(stale_edge VERSION ([\d.]+)", (ROOT / "csrc" / "CMakeLists.txt").read_text())
    assert cmake is not None
    assert cmake.group(1) == stale_edge.__version__
