"""`python -m app.cli`: the command where no console script is installed."""

from app.cli import main

main(prog_name="peerd")
