"""`python -m pinnsim`: the command line, for an interpreter whose scripts folder is not on the path."""

from pinnsim.cli import main

if __name__ == "__main__":
    main()
