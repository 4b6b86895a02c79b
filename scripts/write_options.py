#!/usr/bin/env python3
"""Write the tables of options in docs/operations.md again, from app/settings.

`--check` writes nothing, and exits 1 when the page says something else.
"""

import sys
from pathlib import Path

from app.settings import Settings
from app.settings.loading import is_list, option_of, shown_default, spelled, variable_of
from app.settings.options import GROUPS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
BEGIN = "<!-- options: written by scripts/write_options.py from app/settings; `make generate` writes them again -->"
END = "<!-- end of options -->"


def tables() -> str:
    """A table for each group, a row for each option."""
    parts = []
    for group in GROUPS:
        rows = [row(name) for name in group.__annotations__]
        head = "| option | environment | value | default | meaning |\n|---|---|---|---|---|"
        parts.append("\n".join([f"### {str(group.__doc__).rstrip('.')}\n", head, *rows]))
    return "\n\n".join(parts)


def row(name: str) -> str:
    """One option."""
    field = Settings.model_fields[name]
    option = option_of(name)
    flag = field.annotation is bool
    cells = (
        f"`{option}`" + (f", `--no-{option[2:]}`" if flag else ""),
        f"`{variable_of(name)}`",
        spelled(field).right + ("; several" if is_list(field) else ""),
        shown_default(field),
        str(field.description),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> int:
    """Put the tables between their marks."""
    check = sys.argv[1:] == ["--check"]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
    if check:
        if new != text:
            print("docs/operations.md lists other options than app/settings has; run: make generate", file=sys.stderr)
        return new != text
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
