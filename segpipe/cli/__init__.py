"""The `segpipe` program: a module for each kind of command, put together in `main`."""
