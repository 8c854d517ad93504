"""The images below a prefix of a bucket, as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from segpipe.errors import InputError, Reason
from segpipe.readers.extensions import is_image_name
from segpipe.readers.names import object_uri, readable
from segpipe.readers.places import object_ref
from segpipe.readers.zarr_folder import OME_ZARR
from segpipe.records import ImageRef

if TYPE_CHECKING:
    from segpipe.buckets.bucket import Bucket, Found


@dataclass(frozen=True, slots=True)
class _Unlisted:
    """A prefix right below which is an object whose key cannot be expressed."""

    prefix: str
    detail: str


def walk_bucket(bucket: Bucket, prefix: str) -> Iterator[ImageRef | None]:
    """The images below `prefix` (empty, or parts of a key with no slash at the end).

    None stands for an object that is no image by its extension. What is called an OME-Zarr is one
    image, refused: in a bucket none is read. The order is that of the keys, by
    their bytes, and of a reply of the storage no more than itself is held.

    Keys with an empty part (`a//b.png`), with `.` or `..` for a part, or with control characters
    cannot be expressed by the library that asks the storage, which then gives nothing of the reply
    that they are in. Such a reply is asked for again level by level, and the level of such a
    key, with all that is below it, is an image ref of its own, refused.
    """
    last = None
    for found in _listed(bucket, prefix):
        if isinstance(found, _Unlisted):
            yield _refused(bucket.address, found, prefix)
        elif (folder := _ome_zarr(found.key, prefix)) is not None:
            if folder != last:
                yield _unread(bucket.address, folder, prefix)
            last = folder
        elif is_image_name(found.key.encode()) and not _is_folder(bucket, found):
            yield object_ref(bucket.address, found, _shown(found.key, prefix))
        else:
            yield None


def _listed(bucket: Bucket, prefix: str) -> Iterator[Found | _Unlisted]:
    stack = [_below(bucket, prefix, "")]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, Iterator):
            stack.append(item)
        else:
            yield item


_Item: TypeAlias = "Found | _Unlisted | Iterator[_Item]"
"""What is listed, or how to list what comes next."""


def _below(bucket: Bucket, prefix: str, after: str) -> Iterator[_Item]:
    """What is below a prefix, of the keys behind `after`."""
    from segpipe.buckets.bucket import UnlistableError

    last = after
    try:
        for found in bucket.below(prefix, after or None):
            if found.key > after:
                yield found
                last = found.key
    except UnlistableError:
        yield _level(bucket, prefix, last)


def _level(bucket: Bucket, prefix: str, after: str) -> Iterator[_Item]:
    """The same in smaller parts."""
    from segpipe.buckets.bucket import UnlistableError

    try:
        objects, folders = bucket.level(prefix)
    except UnlistableError as error:
        yield _Unlisted(prefix, str(error))
        return
    members: dict[str, Found | None] = {found.key: found for found in objects}
    members |= {f"{folder}/": None for folder in folders}
    for key, found in sorted(members.items()):
        if found is not None:
            if key > after:
                yield found
        elif key > after or after.startswith(key):
            yield _below(bucket, key.removesuffix("/"), after if after.startswith(key) else "")


def _is_folder(bucket: Bucket, found: Found) -> bool:
    """Whether an empty object is what a console makes of a folder, which is listed without the
    slash at the end of its key.
    """
    if found.size:
        return False
    try:
        bucket.head(found.key)
    except InputError as error:
        return error.reason is Reason.NOT_FOUND
    return False


def _refused(bucket: str, found: _Unlisted, root: str) -> ImageRef:
    detail = (
        f"not listed, with all that is below it, since it has an object with a key that cannot be "
        f"expressed; rename it: {found.detail}"
    )
    uri = object_uri(bucket, found.prefix) if found.prefix else bucket
    shown = "." if found.prefix == root else _shown(found.prefix, root)
    return ImageRef(uri, shown, 0, 0, Reason.READ_ERROR, detail)


def _ome_zarr(key: str, prefix: str) -> str | None:
    """The key of the outermost OME-Zarr, by name, that an object at or below `prefix` is in."""
    end = key.find(f"{OME_ZARR}/", max(0, len(prefix) - len(OME_ZARR)))
    return key[: end + len(OME_ZARR)] if end >= 0 else None


def _unread(bucket: str, folder: str, root: str) -> ImageRef:
    detail = "an OME-Zarr in a bucket; copy it to a disk"
    shown = _shown(folder, root)
    return ImageRef(object_uri(bucket, folder), shown, 0, 0, Reason.UNSUPPORTED_FORMAT, detail)


def _shown(key: str, root: str) -> str:
    return readable(key.removeprefix(f"{root}/" if root else "").encode())
