"""Where data sets are had: official pages, stable links with checksums, and fetching those."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cdscale.errors import ReadError, SpecError, explain

_PIECE = 1 << 20
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Archive:
    """One file behind a stable link."""

    file: str
    url: str
    md5: str
    """Published checksum; empty where none is known for sure."""
    holds: str


@dataclass(frozen=True)
class Download:
    """How a data set is had.

    ``archives`` are those that can be fetched without asking anybody; ``steps`` tell what is to be
    done besides, or instead.
    """

    page: str
    archives: tuple[Archive, ...] = ()
    steps: tuple[str, ...] = ()

    def commands(self, folder: Path) -> tuple[str, ...]:
        """Shell commands that fetch, verify and unpack into a folder; steps as comments."""
        lines = [f"# {self.page}", *(f"# {step}" for step in self.steps)]
        if self.archives:
            lines.append(f"mkdir -p {shlex.quote(str(folder))}")
        for archive in self.archives:
            path = shlex.quote(str(folder / archive.file))
            lines.append(f"curl -fL --retry 5 -C - -o {path} {shlex.quote(archive.url)}")
            if archive.md5:
                said = shlex.quote(f"{archive.md5}  {folder / archive.file}")
                lines.append(f"echo {said} | md5sum -c -")
            else:
                lines.append("# No checksum is published for this file.")
            lines.append(f"unzip -q {path} -d {shlex.quote(str(folder))}")
        return tuple(lines)

    def fetch(self, folder: Path) -> tuple[Path, ...]:
        """Fetch all archives, verify and unpack them.

        An archive that is already there with the right checksum is not fetched again.

        Returns
        -------
        tuple of Path
            The archives, which may be deleted now.

        Raises
        ------
        SpecError
            When there is nothing that can be fetched without asking.
        ReadError
            When a download fails or does not have its checksum, or when an archive would write
            outside the folder.
        """
        if not self.archives:
            raise SpecError(
                explain(f"nothing to fetch by itself from {self.page}", do=" ".join(self.steps))
            )
        paths = []
        for archive in self.archives:
            path = folder / archive.file
            if not (path.exists() and archive.md5 and _md5(path) == archive.md5):
                fetch(archive, path)
            unpack(path, folder)
            paths.append(path)
        return tuple(paths)


def fetch(archive: Archive, path: Path) -> None:
    """Fetch one file; it appears under its name only when it is complete and verified.

    Raises
    ------
    ReadError
        When the link does not serve, or serves something else.
    """
    if urlsplit(archive.url).scheme not in ("http", "https"):
        raise ReadError(
            explain(f"refused the link {archive.url}", expected="http or https"), permanent=True
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with (
            urllib.request.urlopen(archive.url, timeout=_TIMEOUT_S) as answer,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file, _PIECE)
    except (urllib.error.URLError, OSError, ValueError) as err:
        part.unlink(missing_ok=True)
        if isinstance(err, urllib.error.HTTPError):
            err.close()
        raise ReadError(
            explain(f"cannot fetch {archive.url}", got=err, do="Try again later."), permanent=False
        ) from None
    if archive.md5 and (got := _md5(part)) != archive.md5:
        part.unlink()
        raise ReadError(
            explain(
                f"{archive.url} serves another file",
                expected=f"md5 {archive.md5}",
                got=got,
                do="Fetch it from the page of the data set.",
            ),
            permanent=True,
        )
    part.replace(path)


def unpack(path: Path, folder: Path) -> None:
    """Unpack a ZIP file.

    Raises
    ------
    ReadError
        When it is damaged, or when a member would land outside the folder or is a link.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _refuse(path, member)
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError) as err:
        raise ReadError(
            explain(f"cannot unpack {path}", got=err, do="Fetch it again."), permanent=True
        ) from None


def _refuse(path: Path, member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename.replace("\\", "/"))
    link = stat.S_ISLNK(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or ":" in member.filename or link:
        raise ReadError(
            explain(
                f"{path}: refused the member {member.filename!r}",
                expected="files inside the folder",
                do="Take the archive from the official source.",
            ),
            permanent=True,
        )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
