"""What a SOURCE holds: images listed as a stream, each with what is already known against it."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

from segpipe.errors import InputError, Reason, SpecError
from segpipe.provenance.redact import redact_url
from segpipe.readers.archives import (
    DAMAGE,
    Archive,
    Member,
    ZipArchive,
    ambiguity_key,
    open_archive,
)
from segpipe.readers.bucket import walk_bucket
from segpipe.readers.extensions import ARCHIVES, is_image_name
from segpipe.readers.folder import walk_folder
from segpipe.readers.manifest import SUFFIXES, walk_manifest
from segpipe.readers.names import (
    file_uri,
    is_object_uri,
    member_uri,
    object_uri,
    readable,
    split_object_uri,
    split_uri,
)
from segpipe.readers.places import Places
from segpipe.readers.plane_refs import names_a_plane, path_ref
from segpipe.readers.zarr_folder import is_listed_whole, local_ref
from segpipe.records import ImageRef

_READABLE_ARCHIVES = tuple(ending for ending in ARCHIVES if ending not in (".7z", ".rar"))


class EmptyCollection(SpecError):  # noqa: N818 - what was found, which is no mistake of the code
    """A SOURCE that exists and holds no image; raised at the end of the iteration."""


class Listing:
    """The images of a SOURCE; every iteration reads it anew.

    Attributes:
        root: the folder, the archive, the manifest's or the glob's own text, or an address.
        kind: `folder`, `prefix`, `glob`, `image`, `manifest`, `zip` or `tar`.
        place: what the uris of all images begin with, where the listing holds every image of that
            place; None for one that names a choice.
        ignored: files left alone so far in this iteration: their extension is no image's, or the
            manifest named them before.
    """

    def __init__(
        self,
        root: str,
        kind: str,
        walk: Callable[[], Iterator[ImageRef | None]],
        place: str | None = None,
    ) -> None:
        self.root = root
        self.place = place
        self.kind = kind
        self.ignored = 0
        self._walk = walk

    def __iter__(self) -> Iterator[ImageRef]:
        """
        Raises:
            EmptyCollection: nothing was listed.
            SpecError: a manifest or an archive is found to be unreadable.
            StoreError: the bucket cannot be listed.
            TransientStoreError: there was no answer from the storage.
        """
        self.ignored = listed = 0
        for ref in self._walk():
            if ref is None:
                self.ignored += 1
            else:
                listed += 1
                yield ref
        if not listed:
            left = f" ({self.ignored:,} other files were left alone)" if self.ignored else ""
            raise EmptyCollection(f"{self.root}: no images in this {self.kind}{left}")


def list_collection(source: str) -> Listing:
    """List the images of a folder, glob, image, manifest or archive, or below an address.

    The folder of an OME-Zarr is one image, wherever a file could be one. A plane of an image may
    be named behind it, as in `a.ome.tif#z=3` (see `planes`); without one, a listing, which opens
    no image, has the first plane of each.

    A path that exists is taken as it is; otherwise `*`, `?` and `[` make it a glob, in which `**`
    stands for any folders. A folder, a prefix and an archive list what has an image's extension; a
    manifest, a glob and a single file list whatever they name.

    An address is `s3://BUCKET/KEY`, `gs://` or `az://`, percent-encoded as URIs are. An object of
    this key is an image, a manifest or an archive; otherwise it is a prefix, as if it ended with a
    slash. There are no globs in buckets.

    Order: a folder's by the bytes of the names, depth first; a prefix's by the bytes of the keys; a
    glob's and a zip's by the bytes of the names; a tar's and a manifest's own.

    Raises:
        SpecError: it does not exist, is of no known kind, or is an archive that cannot be read.
        StoreError: the bucket cannot be asked.
    """
    places = Places()
    if is_object_uri(source):
        return _in_bucket(source, places)
    path = _local(source)
    shown = _name(file_uri(path))
    if os.path.isdir(path):  # noqa: PTH112 - any bytes, as strings
        if is_listed_whole(path):
            return Listing(path, "image", lambda: iter((local_ref(path, shown),)))
        place = file_uri(path).rstrip("/") + "/"
        return Listing(path, "folder", lambda: walk_folder(path), place)
    if not os.path.lexists(path):
        if glob.has_magic(path):
            return Listing(path, "glob", lambda: _walk_glob(path))
        if names_a_plane(path) and os.path.lexists(path.rpartition("#")[0]):
            return Listing(path, "image", lambda: iter((path_ref(path, shown, local_ref),)))
        raise SpecError(f"{source}: there is no such file or folder")
    return _single(path, file_uri(path), places)


def _in_bucket(source: str, places: Places) -> Listing:
    from segpipe.buckets.client import check_address

    check_address(source)
    try:
        bucket, key = split_object_uri(source)
    except ValueError as error:
        raise SpecError(f"{source}: {error}") from error
    prefix = key.removesuffix("/")
    if prefix and not {"", ".", ".."}.isdisjoint(prefix.split("/")):
        raise SpecError(f"{source}: an address with an empty part, `.` or `..` is not read")
    if prefix and prefix == key:
        found = places.ref(object_uri(bucket, key), "")
        if found.refused is None:
            return _single(source, found.uri, places)
        if found.refused is not Reason.NOT_FOUND:
            raise SpecError(f"{source}: {found.refused_detail}")
    place = object_uri(bucket, f"{prefix}/" if prefix else "")
    return Listing(source, "prefix", lambda: walk_bucket(places.bucket(bucket), prefix), place)


def _single(source: str, uri: str, places: Places) -> Listing:
    """A file or an object; `source` is what the caller calls it."""
    if source.lower().endswith(SUFFIXES):
        return Listing(source, "manifest", lambda: walk_manifest(source, uri, places))
    if source.lower().endswith(_READABLE_ARCHIVES):
        return _archive(source, uri, places)
    return Listing(source, "image", lambda: iter((places.ref(uri, _name(uri)),)))


def _local(source: str) -> str:
    if not source:
        raise SpecError("SOURCE is empty; a folder, glob, image, manifest or archive is needed")
    if source.startswith("file:///"):
        path, member = split_uri(source)
        if member is None:
            return path
        raise SpecError(f"{source}: a member of an archive; give the archive as SOURCE")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        raise SpecError(
            f"{redact_url(source)}: images are read from folders, s3://, gs:// and az://; "
            "copy or mount it"
        )
    return source


def _name(uri: str) -> str:
    """The last part of a path or a key, for people."""
    return readable(unquote_to_bytes(uri).rpartition(b"/")[2])


def _walk_glob(pattern: str) -> Iterator[ImageRef | None]:
    """Names are held in memory, to be sorted. A folder counts only if it is named like an image, or
    is one; what is in an OME-Zarr that was found does not count.
    """
    root = _fixed_part(pattern)
    found = set(glob.iglob(pattern, recursive=True))  # noqa: PTH207 - Path decodes no bytes
    whole: set[str] = set()
    for path in sorted(found, key=os.fsencode):
        name = os.fsencode(path)
        if not whole.isdisjoint(_folders_of(path)):
            continue
        is_folder = os.path.isdir(path)  # noqa: PTH112
        if is_folder and is_listed_whole(path):
            whole.add(path.rstrip("/"))
        elif is_folder and not is_image_name(name):
            continue
        yield local_ref(path, readable(os.fsencode(os.path.relpath(path, root))))


def _folders_of(path: str) -> Iterator[str]:
    """Those that a path leads through."""
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def _fixed_part(pattern: str) -> str:
    """The folder that a glob starts from."""
    fixed = Path(pattern).parts
    magic = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
    return str(Path(*fixed[:magic]))


def _archive(source: str, uri: str, places: Places) -> Listing:
    try:
        archive = open_archive(*places.open(uri))
    except InputError as error:
        raise SpecError(f"{source}: the archive cannot be read: {error.detail}") from error
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from error
    kind = "zip" if isinstance(archive, ZipArchive) else "tar"
    archive.close()
    return Listing(
        source,
        kind,
        lambda: _walk_archive(uri, places, in_order=kind == "tar"),
        member_uri(uri, b""),
    )


def _walk_archive(uri: str, places: Places, in_order: bool) -> Iterator[ImageRef | None]:
    """Images and unsafe members; a damaged archive adds itself, refused, after what is readable."""
    whole = places.ref(uri, _name(uri))
    archive = open_archive(*places.open(uri, etag=whole.etag))
    try:
        members, damage = _members(archive)
    finally:
        archive.close()
    if not in_order:
        members.sort(key=lambda member: member.name)
    same = Counter(ambiguity_key(member.name) for member in members)
    seen: set[bytes] = set()
    for member in members:
        twins = same[ambiguity_key(member.name)] - 1
        if member.name in seen or not (member.refused or is_image_name(member.name)):
            yield None
            continue
        seen.add(member.name)
        yield _member_ref(member, twins, whole)
    if damage:
        detail = f"the archive is damaged after {len(members):,} members: {damage}"
        yield replace(whole, refused=Reason.CORRUPT, refused_detail=detail)


def _members(archive: Archive) -> tuple[list[Member], str]:
    """(members, what ended the listing early or nothing)."""
    members: list[Member] = []
    try:
        members.extend(archive.members())
    except DAMAGE as error:
        return members, str(error) or type(error).__name__
    return members, ""


def _member_ref(member: Member, twins: int, archive: ImageRef) -> ImageRef:
    refused = member.refused
    if not refused and twins:
        refused = f"{twins + 1} members have this name, or differ from it only in case or form"
    return ImageRef(
        member_uri(archive.uri, member.name),
        readable(member.name),
        member.size,
        archive.mtime_ns,
        Reason.UNSAFE_MEMBER if refused else None,
        refused,
        archive.etag,
    )
