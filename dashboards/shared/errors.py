"""What either application refuses before it has looked at the request's business."""

from __future__ import annotations

from btcfi.surfaces.rest.errors import WrongContentTypeError


class NotAFormError(WrongContentTypeError):
    """A body that is no form of ours."""

    def __init__(self, content_type: str, expected: tuple[str, ...]) -> None:
        super().__init__(content_type)
        self.args = (f"content-type {content_type or 'missing'!r}; expected {' or '.join(expected)}",)
