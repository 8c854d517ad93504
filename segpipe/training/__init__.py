"""Training of the networks that segpipe runs: `python -m segpipe.training RECIPE.toml`."""
