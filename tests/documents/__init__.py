"""The documents hold what they say: their commands run, their links lead somewhere."""
