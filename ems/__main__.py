"""`python -m ems`."""

from ems.cli import app

app()
