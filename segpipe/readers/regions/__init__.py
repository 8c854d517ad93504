"""Images that are too large for memory, read by region: `open_regions(ref).read(box, level)`."""

from segpipe.readers.regions.opening import open_regions
from segpipe.readers.regions.source import Georeference, Level, RegionLimits, RegionSource

__all__ = ["Georeference", "Level", "RegionLimits", "RegionSource", "open_regions"]
