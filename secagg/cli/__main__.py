"""`python -m secagg.cli`: the same as `secagg`."""

from secagg.cli import main

main()
