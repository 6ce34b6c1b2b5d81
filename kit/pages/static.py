"""What every page is drawn with: one stylesheet, one script and a font, held in memory and served by us."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from kit.problems import Problem

HERE = Path(__file__).parent
FETCHED = HERE / "node_modules"  # by `npm ci`; without it pages are plain, and work
STYLE = (
    FETCHED / "@digdir/designsystemet-css/dist/src/index.css",
    FETCHED / "@digdir/designsystemet-theme/brand/digdir.css",
    HERE / "site.css",
)
SCRIPT = (FETCHED / "htmx.org/dist/htmx.min.js", HERE / "site.js")
FONTS = {
    f"inter-{part}.woff2": FETCHED / f"@fontsource-variable/inter/files/inter-{part}-wght-normal.woff2"
    for part in ("latin", "latin-ext")  # the second has Sámi letters
}
FOREVER = "public, max-age=31536000, immutable"  # the address holds a digest of what is there

router = APIRouter(prefix="/felles", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class File:
    kind: str
    plain: bytes
    small: bytes | None  # gzip, where it is worth it


@cache
def files() -> Mapping[str, File]:
    """Name -> the file; those that were not fetched are left out."""
    found = {"site.css": _text("text/css", STYLE), "site.js": _text("text/javascript", SCRIPT)}
    for name, path in FONTS.items():
        if path.is_file():
            found[name] = File("font/woff2", path.read_bytes(), None)
    return found


def _text(kind: str, parts: tuple[Path, ...]) -> File:
    text = b"\n".join(part.read_bytes() for part in parts if part.is_file())
    return File(f"{kind}; charset=utf-8", text, gzip.compress(text, 9, mtime=0))


@cache
def digest() -> str:
    return hashlib.sha256(b"".join(file.plain for file in files().values())).hexdigest()[:16]


def address(name: str) -> str:
    """Where a page finds this file."""
    return f"/felles/{digest()}/{name}"


def takes_gzip(request: Request) -> bool:
    """Whether who asks can read gzip: names it, and not with q=0, which says no."""
    offered = (one.replace(" ", "").split(";") for one in request.headers.get("accept-encoding", "").split(","))
    return any(name == "gzip" and not re.fullmatch(r"q=0(\.0*)?", "".join(how)) for name, *how in offered)


@router.get("/{of}/{name}")
async def read(of: str, name: str, request: Request) -> Response:
    """One file. Another digest is that of a page from before an update: it gets today's file, not to be kept."""
    file = files().get(name)
    if file is None:
        raise Problem("not-found", "Not found", 404, "There is no such file.")
    headers = {"cache-control": FOREVER if of == digest() else "no-cache", "vary": "accept-encoding"}
    if file.small is not None and takes_gzip(request):
        return Response(file.small, headers={**headers, "content-encoding": "gzip"}, media_type=file.kind)
    return Response(file.plain, headers=headers, media_type=file.kind)
