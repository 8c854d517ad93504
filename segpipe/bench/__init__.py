"""How fast and how good the parts are, measured where they run: `segpipe bench`."""
