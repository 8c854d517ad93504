"""Prefect flows: when and for whom; what a run does is in `segpipe.execution`."""
