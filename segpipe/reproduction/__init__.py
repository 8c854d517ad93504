"""Does a run come again: a sample of it segmented anew, and compared with what was stored."""

from segpipe.reproduction.again import Reproduction, reproduce

__all__ = ["Reproduction", "reproduce"]
