"""`python -m routerpool` is `routerpool`."""

from routerpool.cli.commands import main

if __name__ == "__main__":
    main()
