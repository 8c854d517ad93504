"""`python -m segpipe` is `segpipe`."""

from segpipe.cli import main

main()
