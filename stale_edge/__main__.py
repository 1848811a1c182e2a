"""`python -m stale_edge` is the command `stale-edge`."""

from stale_edge.cli import main

if __name__ == "__main__":
    main()
