"""`python -m aekit` is the aekit command."""

from aekit.cli import main

if __name__ == "__main__":  # a spawned worker imports this file under another name
    main()
