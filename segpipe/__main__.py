"""`python -m segpipe` is `segpipe`."""

from segpipe.cli.main import main

main()
