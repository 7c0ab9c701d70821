"""Static files of an application and those that all share, under paths that name their content."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from dashboards.shared.render import SHARED, fingerprint_of


class Static(StaticFiles):
    """Files under a path that names their content, so that they may be kept for good."""

    def __init__(self, own: Path) -> None:
        """``own``: the application's folder; a file of it goes before ours of one name."""
        super().__init__(directory=own / "static")
        self.all_directories = [own / "static", SHARED / "static"]
        self._named = f"v={fingerprint_of(own / 'static', SHARED / 'static')}".encode()

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file's response. Raises HTTPException."""
        answer = await super().get_response(path, scope)
        # another release's name must not keep this one's content: not in a proxy that anybody fills, nor in a browser
        known = scope.get("query_string", b"") == self._named
        answer.headers["cache-control"] = "public, max-age=31536000, immutable" if known else "no-cache"
        return answer
