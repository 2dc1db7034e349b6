"""`python -m swarmcell`."""

from swarmcell.cli.start import main

main()
