"""Commands whose help ends with examples."""

from typing import Any

import click


class ExampleCommand(click.Command):
    """A command with examples: lines that can be typed as they are, each with what it does."""

    def __init__(self, *args: Any, examples: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, under a heading of their own."""
        super().format_epilog(ctx, formatter)
        write_examples(formatter, self.examples)


def write_examples(formatter: click.HelpFormatter, examples: dict[str, str]) -> None:
    """Each line as it is typed, what it does above it."""
    with formatter.section("Examples"):
        for line, meaning in examples.items():
            formatter.write(f"{'':{formatter.current_indent}}# {meaning}\n{'':{formatter.current_indent}}{line}\n")
