"""What either application refuses before it has looked at the request's business."""

from __future__ import annotations

from btcfi.surfaces.rest.errors import RequestRefusedError, WrongContentTypeError


class NotAFormError(WrongContentTypeError):
    """A body that is no form of ours."""

    def __init__(self, content_type: str, expected: tuple[str, ...]) -> None:
        super().__init__(content_type)
        self.args = (f"content-type {content_type or 'missing'!r}; expected {' or '.join(expected)}",)


class ForgedFormError(RequestRefusedError):
    """A form that does not come from a page of this session."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}; expected a form of a page that this session opened: load the page again")
        self.why = why
