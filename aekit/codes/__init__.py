"""Codes: the files that hold them, and the entropy coder behind the archive."""
