"""Build the wheel and the sdist; check that both hold what they should and that the wheel works away from the checkout.

The wheel carries the package, the shelf and the experiments (as data under `pinnsim/_share`), the embedded tables, the
type marker and the licences, and puts nothing else on a user's import path. The sdist carries, besides, what is needed
to test and to read it.

    python .ci/check_dist.py FOLDER     # FOLDER receives the wheel and the sdist, and is emptied first
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = {"models": "pinnsim/_share/models", "experiments": "pinnsim/_share/experiments"}
SDIST_FOLDERS = ["pinnsim", "models", "docs", "experiments", "notebooks", "tests", ".ci"]
SDIST_FILES = ["pyproject.toml", "README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"]
# At least one of each must be there: an empty folder would satisfy every other check.
WHEEL_MUST_MATCH = [
    "pinnsim/py.typed",
    "pinnsim/data/embedded/*/*.csv",
    "pinnsim/data/embedded/*/NOTICE.md",
    "pinnsim/_share/models/*/model.toml",
    "pinnsim/_share/experiments/*.py",
    "pinnsim/_share/experiments/*.toml",
    "pinnsim-*.dist-info/licenses/LICENSE",
    "pinnsim-*.dist-info/licenses/NOTICE",
]
# Run in an empty folder, with the installed wheel in front of the checkout.
TRIALS = [
    ["-m", "pinnsim", "--help"],
    ["-c", "import pinnsim; assert 'installed' in pinnsim.__file__; pinnsim.data.load('bsubtilis_carbon_shift')"],
]


def repository_files(*folders: str) -> list[str]:
    """Files under `folders` that git tracks or would track."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({name for name in names if (ROOT / name).is_file()})


def in_wheel(name: str) -> str:
    folder, _, rest = name.partition("/")
    return f"{SHARED.get(folder, folder)}/{rest}"


def wheel_problems(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    problems = [
        f"wheel lacks {in_wheel(name)}" for name in repository_files("pinnsim", *SHARED) if in_wheel(name) not in names
    ]
    problems += [
        f"wheel has nothing like {glob}"
        for glob in WHEEL_MUST_MATCH
        if not any(Path(name).match(glob) for name in names)
    ]
    for top in sorted({name.partition("/")[0] for name in names}):
        if top != "pinnsim" and not top.endswith(".dist-info"):
            problems.append(f"wheel would put '{top}' on the import path")
    for line in metadata.splitlines():
        requirement = line.removeprefix("Requires-Dist: ").partition(";")[0]
        if line.startswith("Requires-Dist: ") and ("<" in requirement or "==" in requirement):
            problems.append(f"wheel caps a dependency: {requirement}")
    return problems


def sdist_problems(sdist: Path) -> list[str]:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = [*SDIST_FILES, *repository_files(*SDIST_FOLDERS)]
    problems = [f"sdist lacks {name}" for name in expected if name not in names]
    return problems + [f"sdist has nothing under {folder}/" for folder in SDIST_FOLDERS if not repository_files(folder)]


def trial_problems(wheel: Path) -> list[str]:
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        installed, empty = Path(scratch, "installed"), Path(scratch, "empty")
        empty.mkdir()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(installed), str(wheel)]
        subprocess.run(pip, check=True)
        for arguments in TRIALS:
            environment = os.environ | {"PYTHONPATH": str(installed)}
            run = subprocess.run(
                [sys.executable, *arguments], cwd=empty, env=environment, capture_output=True, text=True
            )
            if run.returncode != 0:
                problems.append(f"installed wheel: python {' '.join(arguments)} failed:\n{run.stderr}")
    return problems


def main(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, stdout=subprocess.DEVNULL
    )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    problems = [*wheel_problems(wheel), *sdist_problems(sdist), *trial_problems(wheel)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        for file in (wheel, sdist):
            print(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB) holds what it should")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve()))
