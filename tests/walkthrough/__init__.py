"""The walk of `docs/nightly.md`, on servers of the kind that an operator has."""
