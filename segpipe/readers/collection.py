"""What a SOURCE holds: images listed as a stream, each with what is already known against it."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from segpipe.errors import InputError, Reason, SpecError
from segpipe.readers.archives import (
    DAMAGE,
    Archive,
    Member,
    ZipArchive,
    ambiguity_key,
    open_archive,
)
from segpipe.readers.extensions import ARCHIVES, is_image_name
from segpipe.readers.files import file_ref
from segpipe.readers.folder import walk_folder
from segpipe.readers.manifest import SUFFIXES, walk_manifest
from segpipe.readers.names import file_uri, member_uri, readable, split_uri
from segpipe.records import ImageRef

_READABLE_ARCHIVES = tuple(ending for ending in ARCHIVES if ending not in (".7z", ".rar"))


class EmptyCollection(SpecError):  # noqa: N818 - what was found, which is no mistake of the code
    """A SOURCE that exists and holds no image; raised at the end of the iteration."""


class Listing:
    """The images of a SOURCE; every iteration reads it anew.

    Attributes:
        root: the folder, the archive, the manifest's or the glob's own text.
        kind: `folder`, `glob`, `image`, `manifest`, `zip` or `tar`.
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
            SpecError: a manifest is found to be unreadable.
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
    """List the images of a folder, glob, image, manifest or archive.

    A path that exists is taken as it is; otherwise `*`, `?` and `[` make it a glob, in which `**`
    stands for any folders. A folder and an archive list what has an image's extension; a
    manifest, a glob and a single file list whatever they name.

    Order: a folder's by the bytes of the names, depth first; a glob's and a zip's by the bytes of
    the names; a tar's and a manifest's own.

    Raises:
        SpecError: it does not exist, is not local, or is an archive that cannot be read.
    """
    path = _local(source)
    if os.path.isdir(path):  # noqa: PTH112 - any bytes, as strings
        place = file_uri(path).rstrip("/") + "/"
        return Listing(path, "folder", lambda: walk_folder(path), place)
    if not os.path.lexists(path):
        if glob.has_magic(path):
            return Listing(path, "glob", lambda: _walk_glob(path))
        raise SpecError(f"{source}: there is no such file or folder")
    if path.lower().endswith(SUFFIXES):
        return Listing(path, "manifest", lambda: walk_manifest(path))
    if path.lower().endswith(_READABLE_ARCHIVES):
        return _archive(path)
    return Listing(path, "image", lambda: iter((file_ref(path, _name(path)),)))


def _local(source: str) -> str:
    if not source:
        raise SpecError("SOURCE is empty; a folder, glob, image, manifest or archive is needed")
    if source.startswith("file:///"):
        path, member = split_uri(source)
        if member is None:
            return path
        raise SpecError(f"{source}: a member of an archive; give the archive as SOURCE")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        raise SpecError(f"{source}: only local paths are read in this version; copy or mount it")
    return source


def _name(path: str) -> str:
    return readable(os.fsencode(Path(path).name))


def _walk_glob(pattern: str) -> Iterator[ImageRef | None]:
    """Names are held in memory, to be sorted. A folder counts only if it is named like an image."""
    root = _fixed_part(pattern)
    found = set(glob.iglob(pattern, recursive=True))  # noqa: PTH207 - Path decodes no bytes
    for path in sorted(found, key=os.fsencode):
        name = os.fsencode(path)
        if is_image_name(name) or not os.path.isdir(path):  # noqa: PTH112
            yield file_ref(path, readable(os.fsencode(os.path.relpath(path, root))))


def _fixed_part(pattern: str) -> str:
    """The folder that a glob starts from."""
    fixed = Path(pattern).parts
    magic = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
    return str(Path(*fixed[:magic]))


def _archive(path: str) -> Listing:
    try:
        archive = open_archive(path)
    except InputError as error:
        raise SpecError(f"{path}: the archive cannot be read: {error.detail}") from error
    kind = "zip" if isinstance(archive, ZipArchive) else "tar"
    archive.close()
    place = member_uri(file_uri(path), b"")
    return Listing(path, kind, lambda: _walk_archive(path, in_order=kind == "tar"), place)


def _walk_archive(path: str, in_order: bool) -> Iterator[ImageRef | None]:
    """Images and unsafe members; a damaged archive adds itself, refused, after what is readable."""
    mtime_ns = file_ref(path, "").mtime_ns
    archive = open_archive(path)
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
        yield _member_ref(member, twins, file_uri(path), mtime_ns)
    if damage:
        yield _damaged(path, damage, len(members))


def _members(archive: Archive) -> tuple[list[Member], str]:
    """(members, what ended the listing early or nothing)."""
    members: list[Member] = []
    try:
        members.extend(archive.members())
    except DAMAGE as error:
        return members, str(error) or type(error).__name__
    return members, ""


def _member_ref(member: Member, twins: int, archive: str, mtime_ns: int) -> ImageRef:
    refused = member.refused
    if not refused and twins:
        refused = f"{twins + 1} members have this name, or differ from it only in case or form"
    return ImageRef(
        member_uri(archive, member.name),
        readable(member.name),
        member.size,
        mtime_ns,
        Reason.UNSAFE_MEMBER if refused else None,
        refused,
    )


def _damaged(path: str, damage: str, n_members: int) -> ImageRef:
    ref = file_ref(path, _name(path))
    detail = f"the archive is damaged after {n_members:,} members: {damage}"
    return ImageRef(ref.uri, ref.path, ref.size_bytes, ref.mtime_ns, Reason.CORRUPT, detail)
