"""That a source distribution and a wheel hold what they should, and nothing else: `what_they_hold.py CLONE SDIST WHEEL`."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile

# Of use in a clone only.
CLONE_ONLY = re.compile(r"\.(ci|github)/|\.gitignore|\.pre-commit-config\.yaml")
MADE = re.compile(r"PKG-INFO|setup\.cfg|overparam\.egg-info/.*")


def compare(what: str, found: set[str], wanted: set[str]) -> bool:
    """Say what differs."""
    for word, names in (("lacks", wanted - found), ("has a stray", found - wanted)):
        for name in sorted(names):
            print(f"{what} {word} {name}")
    print(f"{what}: {len(found)} files, {'as wanted' if found == wanted else 'NOT as wanted'}")
    return found == wanted


def main(clone: str, sdist: str, wheel: str) -> int:
    listed = subprocess.run(["git", "-C", clone, "ls-files"], check=True, capture_output=True, text=True).stdout.split("\n")
    tracked = {name for name in listed if name}
    with tarfile.open(sdist) as archive:
        inside = {member.name.partition("/")[2] for member in archive if member.isfile()}
    right = compare("the sdist", {name for name in inside if not MADE.fullmatch(name)},
                    {name for name in tracked if not CLONE_ONLY.match(name)})

    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    kernels = {re.sub(r"\.[^/]*\.(so|pyd)$", ".pyx", name) for name in inside}  # NAME.cpython-311-x86_64-linux-gnu.so stands for NAME.pyx
    installed = {re.sub(r"^_core/", "overparam/_core/", name) for name in tracked if name.startswith(("_core/", "overparam/"))}
    wanted = {name for name in installed if re.search(r"\.(py|pyi|pyx|typed)$", name)}
    return 0 if compare("the wheel", kernels, wanted) and right else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
