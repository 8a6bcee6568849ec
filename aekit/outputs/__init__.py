"""Outputs: files and folders that take their names when they are whole, and the journal that lets a job resume."""
