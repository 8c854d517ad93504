"""SQL over a store: DuckDB, one read-only SELECT, and nothing but the store's own tables.

    table = query(open_store("results"), "SELECT path, n_objects FROM latest_images")

Views: `images` and `objects` (every result of every run), `runs` (one row per run),
`missing_images` (gone from their place), `latest_images` (of each image the row with the greatest
run_id) and `latest_objects` (the objects of exactly these). `describe()` lists their columns.
"""

from segpipe.query.execute import query
from segpipe.query.output import format_table
from segpipe.query.views import describe

__all__ = ["describe", "format_table", "query"]
