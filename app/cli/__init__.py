"""The command line. Each module of `commands` is one command; it parses, calls and prints, and nothing else.

Exit codes: 0 done; 1 could not be done, the reason is on stderr; 2 what was asked can not be meant.
"""

from app.cli.group import main

__all__ = ["main"]
