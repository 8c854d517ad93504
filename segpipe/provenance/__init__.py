"""How results came to be: the code, the machine, the run record and its RO-Crate."""
