"""The command line, one file a verb; nothing here imports torch before a verb has work for it."""

from datawinnow.cli.app import app, main

__all__ = ["app", "main"]
