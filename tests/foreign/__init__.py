"""Programs that need what is in .venv-foreign, and tests that compare segpipe with it."""
