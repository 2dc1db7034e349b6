"""`python -m swarmcell`."""

from swarmcell.cli.app import main

main()
