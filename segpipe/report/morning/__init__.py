"""The morning after a night: what was done, what failed, what is unlike the last nights.

told = morning(snapshot, run_ids)      reads the rows of the night, once
told.headline, told.alarms             a line; a sentence for each thing to look at
told.html(), told.markdown()           a page; a Prefect artifact
write_morning(files, told)             the page and the night's statistics, beside the record
"""

from segpipe.report.morning.compose import morning, write_morning
from segpipe.report.morning.record import Morning
from segpipe.report.morning.runs import newest_night

__all__ = ["Morning", "morning", "newest_night", "write_morning"]
