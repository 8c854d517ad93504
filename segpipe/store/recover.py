"""What a run that died left half done, finished by whoever comes next."""

from __future__ import annotations

from segpipe.store import layout
from segpipe.store.commits import committed, publish, read_commit
from segpipe.store.files import Files
from segpipe.store.forget import finish_forgetting


def recover(files: Files) -> int:
    """Finish what was begun: forgetting, and publishing what was committed.

    Returns:
        How many chunks were published.
    """
    finish_forgetting(files)
    published = set(files.names("images"))
    waiting = [name for name in committed(files) if f"{name}.parquet" not in published]
    for chunk_id in waiting:
        try:
            publish(files, read_commit(files, chunk_id))
        except FileNotFoundError:
            if files.exists(layout.commit_file(chunk_id)):
                raise  # else it was forgotten meanwhile
    return len(waiting)
