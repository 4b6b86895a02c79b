#!/usr/bin/env python3
"""Write app/api/ again from openapi/peerd.yaml.

    python scripts/generate_api.py           writes what differs
    python scripts/generate_api.py --check   writes nothing; shows the difference and exits 1 when there is one

The work is fastapi-code-generator's, with our templates (openapi/templates/) and our idea of a route (generate_api_routes.py). What
it leaves is put right here: docstrings for the models, today's Python, one format, and the description as JSON beside the code, so
that an installed node can serve it.
"""

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = ROOT / "openapi" / "peerd.yaml"
TEMPLATES = ROOT / "openapi" / "templates"
VISITOR = ROOT / "scripts" / "generate_api_routes.py"
OUTPUT = ROOT / "app" / "api"

GENERATOR_OPTIONS = (
    f"--input={DESCRIPTION}",
    f"--template-dir={TEMPLATES}",
    f"--custom-visitor={VISITOR}",
    "--generate-routers",
    "--disable-timestamp",
    "--no-allow-remote-refs",
    "--python-version=3.11",
    "--enum-field-as-literal=all",
    "--use-annotated",
    "--enable-faux-immutability",
    "--strict-nullable",
)
# The project's own settings leave app/api/ out, and the same input shall give the same bytes whatever they become.
RUFF_OPTIONS = ("--isolated", "--no-cache", "--quiet", "--target-version=py311", "--line-length=120")
RUFF_RULES = (
    "--fix-only",
    "--select=F401,I,UP",
    "--config=lint.isort.known-first-party = ['app']",
    "--config=lint.isort.split-on-trailing-comma = false",
)


def main() -> int:
    """Generate into a temporary folder, then compare it with, or copy it to, app/api/."""
    parser = argparse.ArgumentParser(description="Generate app/api/ from openapi/peerd.yaml.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when app/api/ is not what would be written"
    )
    only_check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        differences = compare(OUTPUT, Path(folder))
        if not differences:
            return 0
        if only_check:
            sys.stdout.writelines(differences)
            print("app/api/ is not what openapi/ says; run: make generate", file=sys.stderr)
            return 1
        replace(OUTPUT, Path(folder))
    return 0


def generate(folder: Path) -> None:
    """Write all of app/api/ into `folder`. The same input gives the same bytes."""
    document = yaml.safe_load(DESCRIPTION.read_text())
    run("fastapi_code_generator", *GENERATOR_OPTIONS, f"--output={folder}")
    (folder / "all_routers.py").rename(folder / "routers" / "__init__.py")
    models = folder / "models.py"
    models.write_text(with_docstrings(models.read_text(), document["components"]["schemas"]))
    format_python(folder)
    (folder / "openapi.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def with_docstrings(code: str, schemas: dict[str, Any]) -> str:
    """`code` with each schema's description as its class's docstring, which the generator can not do from its command line."""

    def described(match: re.Match[str]) -> str:
        if match[1] not in schemas:
            raise SystemExit(f"the model {match[1]} has no schema of that name: give it one, so that its name is ours")
        return f'{match[0]}\n    """{schemas[match[1]]["description"]}"""\n'

    module, _, classes = code.partition("\nclass ")
    module = module.replace("from __future__", '"""The documents of the API."""\n\nfrom __future__', 1)
    return module + re.sub(r"^class (\w+)\(.*\):$", described, "\nclass " + classes, flags=re.MULTILINE)


def format_python(folder: Path) -> None:
    """Sorted imports, today's spelling of types, and one format."""
    run("ruff", "check", *RUFF_OPTIONS, *RUFF_RULES, str(folder))
    run("ruff", "format", *RUFF_OPTIONS, "--config=format.skip-magic-trailing-comma = true", str(folder))


def run(module: str, *arguments: str) -> None:
    """Run a tool of this Python's environment."""
    # The generator says on each run that its formatter will be another one in a later release.
    environment = os.environ | {"PYTHONWARNINGS": "ignore::FutureWarning"}
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=True, env=environment)


def compare(committed: Path, generated: Path) -> list[str]:
    """The lines of a unified diff, none when both folders hold the same files."""
    lines: list[str] = []
    for name in sorted(files(committed) | files(generated)):
        before, after = (
            path.read_text().splitlines(keepends=True) if path.is_file() else []
            for path in (committed / name, generated / name)
        )
        lines += difflib.unified_diff(before, after, f"app/api/{name} (committed)", f"app/api/{name} (generated)")
    return lines


def replace(committed: Path, generated: Path) -> None:
    """Make `committed` hold what `generated` holds, and nothing else."""
    for name in files(committed) - files(generated):
        (committed / name).unlink()
    for name in files(generated):
        (committed / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(generated / name, committed / name)


def files(folder: Path) -> set[str]:
    """Names of the files below `folder`, without Python's caches."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


if __name__ == "__main__":
    sys.exit(main())
