"""Send an application's calls to paid APIs through Farthing.

A transport for httpx rewrites calls to known origins to the proxy and adds the context (tenant, tags). When
the proxy cannot be reached, the same call goes to the provider directly: only when connecting failed, so no call is
ever made twice. Direct calls are counted (`transport.direct`) and logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    import openai

__version__ = "0.1.0"
DEFAULT_PROXY = "http://127.0.0.1:8787"
CONNECT_SECONDS = 1.0
"""How long connecting to the proxy may take before a call goes direct."""
CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
OPENAI = "https://api.openai.com/v1"
NOTHING: Mapping[str, str] = MappingProxyType({})
log = logging.getLogger("farthing")


@dataclass(frozen=True)
class Context:
    """Who calls, and where Farthing is. No provider gets to see any of it."""

    tenant: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    key: str | None = None
    """A Farthing key (`fth-...`) beside the provider's own credential."""
    proxy: str = field(default_factory=lambda: os.environ.get("FARTHING_URL", DEFAULT_PROXY))
    direct_headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    """Replace headers of direct calls, such as a Farthing key by the provider's."""

    def headers(self) -> dict[str, str]:
        """The context as the proxy reads it."""
        tags = ",".join(f"{name}={value}" for name, value in self.tags.items())
        values = {"tenant": self.tenant, "tags": tags, "key": self.key}
        return {f"x-farthing-{name}": value for name, value in values.items() if value}


class _Router:
    """Rewrites requests; `routes` maps origins (`https://api.openai.com`) to paths of the proxy (`/openai`)."""

    def __init__(self, routes: Mapping[str, str], context: Context) -> None:
        self.routes = {_origin(httpx.URL(origin)): path.rstrip("/") for origin, path in routes.items()}
        self.context, self.proxy = context, httpx.URL(context.proxy)
        self.proxied = self.direct = 0
        self._reachable = True

    def to_proxy(self, request: httpx.Request) -> httpx.Request | None:
        """The request as the proxy gets it; `None` when its origin is not routed."""
        path = self.routes.get(_origin(request.url))
        if path is None:
            return None
        url = self.proxy.copy_with(raw_path=path.encode() + request.url.raw_path)
        timeout = dict(request.extensions.get("timeout", {}))
        timeout["connect"] = min(timeout.get("connect") or CONNECT_SECONDS, CONNECT_SECONDS)
        headers = request.headers.copy()
        headers.update({"host": url.netloc.decode(), **self.context.headers()})
        extensions = {**request.extensions, "timeout": timeout}
        return httpx.Request(request.method, url, headers=headers, stream=request.stream, extensions=extensions)

    def reached(self) -> None:
        self.proxied += 1
        if not self._reachable:
            log.info("proxy %s is reachable again after %d direct calls", self.proxy, self.direct)
        self._reachable = True

    def to_provider(self, request: httpx.Request, error: httpx.TransportError) -> httpx.Request:
        """The request for a direct call; raises `error` when that would show a Farthing key to the provider."""
        request.headers.update(self.context.direct_headers)
        if any("fth-" in request.headers.get(name, "") for name in CREDENTIALS):
            raise error
        self.direct += 1
        level = logging.WARNING if self._reachable else logging.DEBUG
        log.log(level, "proxy %s unreachable (%s), calling %s directly", self.proxy, error, request.url.host)
        self._reachable = False
        return request


class FarthingTransport(_Router, httpx.BaseTransport):
    """An httpx transport through Farthing; `inner` makes the connections (TLS settings, limits, HTTP/2)."""

    def __init__(
        self, routes: Mapping[str, str], context: Context | None = None, inner: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(routes, context or Context())
        self._inner = inner or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        proxied = self.to_proxy(request)
        if proxied is None:
            return self._inner.handle_request(request)
        try:
            response = self._inner.handle_request(proxied)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return self._inner.handle_request(self.to_provider(request, error))
        self.reached()
        return response

    def close(self) -> None:
        self._inner.close()


class AsyncFarthingTransport(_Router, httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`."""

    def __init__(
        self, routes: Mapping[str, str], context: Context | None = None, inner: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(routes, context or Context())
        self._inner = inner or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxied = self.to_proxy(request)
        if proxied is None:
            return await self._inner.handle_async_request(request)
        try:
            response = await self._inner.handle_async_request(proxied)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return await self._inner.handle_async_request(self.to_provider(request, error))
        self.reached()
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def client(routes: Mapping[str, str], context: Context | None = None, **kwargs: Any) -> httpx.Client:
    """An httpx client whose calls to the origins in `routes` go through Farthing; `kwargs` are httpx's."""
    return httpx.Client(transport=FarthingTransport(routes, context), **kwargs)


def async_client(routes: Mapping[str, str], context: Context | None = None, **kwargs: Any) -> httpx.AsyncClient:
    """The same, asynchronous."""
    return httpx.AsyncClient(transport=AsyncFarthingTransport(routes, context), **kwargs)


def openai_client(
    context: Context | None = None, *, route: str = "/openai", base_url: str = OPENAI, **kwargs: Any
) -> openai.OpenAI:
    """The OpenAI SDK through Farthing. `base_url` is the provider's, for direct calls; `kwargs` are the SDK's."""
    import openai

    http = client({base_url: route}, context, follow_redirects=True)
    return openai.OpenAI(base_url=base_url, http_client=http, **kwargs)


def async_openai_client(
    context: Context | None = None, *, route: str = "/openai", base_url: str = OPENAI, **kwargs: Any
) -> openai.AsyncOpenAI:
    """The same, asynchronous."""
    import openai

    http = async_client({base_url: route}, context, follow_redirects=True)
    return openai.AsyncOpenAI(base_url=base_url, http_client=http, **kwargs)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
