"""What a STAC API answers: pages and where they lead, counts, and errors in words for users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

from pystac import Link

from cdscale.errors import CatalogueError, explain
from cdscale.scenes.web import Refused, Unanswered, Web
from cdscale.spec.run import public


class Cut(Exception):
    """A query that has to be cut.

    Parameters
    ----------
    why : str
        ``many``, ``doubt`` (not all may have come), ``broken`` (it cannot be paged through),
        ``slow``, or ``large``.
    error : CatalogueError, optional
        What is wrong if it cannot be cut; without one nothing is.
    """

    def __init__(self, why: str, error: CatalogueError | None = None) -> None:
        super().__init__(why)
        self.why, self.error = why, error


def pages(
    web: Web, address: str, method: str = "GET", parameters: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Pages of an answer as the links lead, empty ones included.

    Raises
    ------
    Cut
        When the way ends before the answer does, or is a circle.
    Refused, Unanswered
        When the first page does not come, or nothing does any more.
    """
    page = web.read_json(address, method=method, parameters=parameters)
    asked: set[str] = set()
    while True:
        yield page
        link = next(iter(links(page, "next")), None)
        if link is None:
            return
        link = _sound(link, address)
        name = json.dumps(link, sort_keys=True)
        if name in asked:
            if page.get("features"):
                raise Cut("broken", circle(web.name))
            return
        asked.add(name)
        try:
            page = web.read_json(Link.from_dict(link), parameters=parameters or {})
        except Refused as err:
            if err.status in {401, 403}:
                raise
            raise Cut("broken", refusal(web.name, err)) from None
        except Unanswered as err:
            if err.status < HTTPStatus.INTERNAL_SERVER_ERROR and not err.slow:
                raise
            raise Cut("broken", silence(web.name, err)) from None


def _sound(link: dict[str, Any], address: str) -> dict[str, Any]:
    """What pystac-client needs of a link to a next page, each of the type that it expects."""
    kept = {
        name: link[name]
        for name, kind in (("method", str), ("body", dict), ("headers", dict), ("merge", bool))
        if isinstance(link.get(name), kind)
    }
    return {"rel": "next", "href": urljoin(address, link["href"]), **kept}


def matched(page: dict[str, Any]) -> int | None:
    """How many items there are for a query, where a page of the answer says so."""
    context = page.get("context")
    told = [page.get("numberMatched"), page.get("numMatched")]
    told += [context.get("matched")] if isinstance(context, dict) else []
    return next((n for n in told if type(n) is int and n >= 0), None)


def objects(value: Any) -> list[dict[str, Any]]:
    """Objects of a list that may hold anything, or be none."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def links(data: dict[str, Any], rel: str) -> list[dict[str, Any]]:
    """Links of one kind that lead somewhere."""
    found = (link for link in objects(data.get("links")) if link.get("rel") == rel)
    return [link for link in found if isinstance(link.get("href"), str) and link["href"]]


def conforms(landing: dict[str, Any], *names: str) -> bool:
    """Whether a landing page claims one of these parts of the standard."""
    told = landing.get("conformsTo")
    return any(
        name in str(uri) for uri in (told if isinstance(told, list) else []) for name in names
    )


# --------------------------------------------------------------------------------- errors for users


def no_collection(address: str, missing: list[str], known: set[str]) -> CatalogueError:
    """The catalogue does not have a collection."""
    return CatalogueError(
        explain(
            f"{public(address)} has no collection {', '.join(missing)}",
            expected=f"one of {', '.join(sorted(known)) or 'none'}",
            do="Name the catalogue's own collections in the spec.",
        )
    )


def refusal(address: str, err: Refused) -> CatalogueError:
    """The catalogue will not answer."""
    name = public(address)
    if err.status in {401, 403}:
        return CatalogueError(
            explain(
                f"the catalogue {name} needs credentials, or does not take those given",
                got=err.said,
                do="Put user and password for its host into ~/.netrc, or its key into the address.",
            )
        )
    return CatalogueError(
        explain(
            f"the catalogue {name} does not answer as a STAC API",
            got=err.said,
            do="Check the address, and search.page in the spec: the items asked for at once.",
        )
    )


def silence(address: str, err: Unanswered) -> CatalogueError:
    """The catalogue does not answer, however often it is asked."""
    return CatalogueError(
        explain(
            f"the catalogue {public(address)} does not answer as a STAC API",
            got=err.said,
            do="Check the address and the network, and run again later.",
        )
    )


def circle(address: str) -> CatalogueError:
    """The catalogue's pages lead to each other."""
    return CatalogueError(
        explain(
            f"the catalogue {public(address)} pages in a circle",
            expected="each page to lead on to a new one",
            do="Ask for a smaller area or fewer months, and report it to the catalogue's operator.",
        )
    )
