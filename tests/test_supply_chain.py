"""What is installed and run from elsewhere is named by its content: hashes, integrity, commits."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_action_is_a_commit_with_its_version() -> None:
    used = [
        (path.name, line.strip())
        for path in (ROOT / ".github/workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert len(used) > 10
    loose = [use for use in used if not re.search(r"uses: [\w/.-]+@[0-9a-f]{40} # v\d+\.\d+", use[1])]
    assert not loose


def test_every_pinned_version_has_its_hashes() -> None:
    pins = set(re.findall(r"^([\w.-]+==\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    text = (ROOT / "constraints-hashes.txt").read_text()
    hashed = re.findall(r"^([\w.-]+==\S+) \\(?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+", text, re.MULTILINE)

    def plain(pin: str) -> str:
        name, version = pin.split("==")
        return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"

    assert {plain(pin) for pin in hashed} == {plain(pin) for pin in pins if not pin.startswith("torch==")}
    assert "://" not in text


@pytest.mark.parametrize("program", ["node", "web"])
def test_every_npm_package_has_its_hash(program: str) -> None:
    lock = json.loads((ROOT / "export" / program / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 10
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values()), "any registry will do"
