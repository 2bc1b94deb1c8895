"""Farthing and the provider are played by servers on loopback that record what they get."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import httpx

import farthing
from farthing import Context

try:
    import openai
except ImportError:
    openai = None  # type: ignore[assignment]

COMPLETION = {
    "id": "c1", "object": "chat.completion", "created": 1, "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "pong"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CHUNK = {
    "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1",
    "choices": [{"index": 0, "delta": {"content": "po"}}],
}


class Recorder(ThreadingHTTPServer):
    """A server that records requests and answers as its `answer` says."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.answer = name, "echo"
        self.seen: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body = b"".join(self.chunks())
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append({"path": self.path, "headers": headers, "body": body})
        if self.server.answer == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif self.server.answer == "502":
            self.reply(502, "application/problem+json", b"{}")
        elif body and json.loads(body or b"{}").get("stream"):
            lines = [f"data: {json.dumps(CHUNK)}\n\n".encode(), b"data: [DONE]\n\n"]
            self.reply(200, "text/event-stream", b"".join(lines))
        elif self.path.endswith("/chat/completions"):
            self.reply(200, "application/json", json.dumps(COMPLETION).encode())
        else:
            self.reply(200, "text/plain", self.server.name.encode() + b":" + body)

    do_GET = do_POST

    def chunks(self) -> Any:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.proxy, self.provider = Recorder("proxy"), Recorder("provider")
        self.addCleanup(self.proxy.stop)
        self.addCleanup(self.provider.stop)
        self.routes = {self.provider.url: "/r/geo"}

    def context(self, proxy: str | None = None, **more: Any) -> Context:
        tags = {"team": "maps", "env": "test"}
        return Context(tenant="acme", tags=tags, key="fth-1-s", proxy=proxy or self.proxy.url, **more)

    def client(self, proxy: str | None = None, **more: Any) -> httpx.Client:
        client = farthing.client(self.routes, self.context(proxy, **more))
        self.addCleanup(client.close)
        return client


class Transport(Case):
    def test_calls_go_through_the_proxy_with_their_context(self) -> None:
        client = self.client()
        url = f"{self.provider.url}/a%2Fb?q=Z%C3%BCrich&x=1"
        answer = client.post(url, json={"n": 1}, headers={"authorization": "Bearer sk-1"})
        self.assertEqual((answer.text, str(answer.url)), ('proxy:{"n":1}', url))
        seen = self.proxy.seen[0]
        self.assertEqual(seen["path"], "/r/geo/a%2Fb?q=Z%C3%BCrich&x=1")
        prefix, headers = "x-farthing-", seen["headers"]
        context = {name.removeprefix(prefix): headers[name] for name in headers if name.startswith(prefix)}
        self.assertEqual(context, {"tenant": "acme", "tags": "team=maps,env=test", "key": "fth-1-s"})
        self.assertEqual(seen["headers"]["authorization"], "Bearer sk-1")
        self.assertEqual(f"http://{seen['headers']['host']}", self.proxy.url)
        self.assertEqual(self.provider.seen, [])

    def test_other_origins_are_left_alone(self) -> None:
        other = Recorder("other")
        self.addCleanup(other.stop)
        self.assertEqual(self.client().get(f"{other.url}/x").text, "other:")
        self.assertFalse([name for name in other.seen[0]["headers"] if name.startswith("x-farthing")])

    def test_without_the_proxy_the_provider_is_called_once_and_directly(self) -> None:
        client = self.client(proxy=closed_port())
        with self.assertLogs("farthing", logging.WARNING) as logs:
            for n in range(3):
                answer = client.post(f"{self.provider.url}/x", content=iter([b'{"n":', f"{n}}}".encode()]))
                self.assertEqual(answer.text, f'provider:{{"n":{n}}}')
        self.assertEqual(len(logs.records), 1, "said once, not for every call")
        self.assertEqual(len(self.provider.seen), 3)
        for seen in self.provider.seen:
            self.assertFalse([name for name in seen["headers"] if name.startswith("x-farthing")])
        transport = client._transport
        assert isinstance(transport, farthing.FarthingTransport)
        self.assertEqual((transport.direct, transport.proxied), (3, 0))

    def test_once_bytes_were_sent_an_error_stays_an_error(self) -> None:
        self.proxy.answer = "hang up"
        with self.assertRaises(httpx.TransportError):
            self.client().post(f"{self.provider.url}/x", json={})
        self.assertEqual((len(self.proxy.seen), self.provider.seen), (1, []))

    def test_answers_of_the_proxy_are_returned_as_they_are(self) -> None:
        self.proxy.answer = "502"
        self.assertEqual(self.client().get(f"{self.provider.url}/x").status_code, 502)
        self.assertEqual(self.provider.seen, [])

    def test_a_farthing_key_is_never_shown_to_the_provider(self) -> None:
        with self.assertRaises(httpx.ConnectError):
            self.client(proxy=closed_port()).get(f"{self.provider.url}/x", headers={"authorization": "Bearer fth-1-secret"})
        self.assertEqual(self.provider.seen, [])
        with self.assertLogs("farthing"):
            client = self.client(proxy=closed_port(), direct_headers={"authorization": "Bearer sk-own"})
            client.get(f"{self.provider.url}/x", headers={"authorization": "Bearer fth-1-secret"})
        self.assertEqual(self.provider.seen[0]["headers"]["authorization"], "Bearer sk-own")

    def test_the_proxy_may_be_named_by_the_environment(self) -> None:
        environment = mock.patch.dict(os.environ, {"FARTHING_URL": self.proxy.url})
        with environment, farthing.client({self.provider.url: "/r/geo/"}) as client:
            self.assertEqual(client.get(f"{self.provider.url}/x").text, "proxy:")
        self.assertEqual(self.proxy.seen[0]["path"], "/r/geo/x")

    def test_asynchronous(self) -> None:
        async def both() -> tuple[str, str]:
            async with farthing.async_client(self.routes, self.context()) as client:
                through = await client.get(f"{self.provider.url}/x")
            async with farthing.async_client(self.routes, self.context(closed_port())) as client:
                direct = await client.get(f"{self.provider.url}/x")
            return through.text, direct.text

        with self.assertLogs("farthing", logging.WARNING):
            self.assertEqual(asyncio.run(both()), ("proxy:", "provider:"))
        self.assertEqual(self.proxy.seen[0]["headers"]["x-farthing-tenant"], "acme")


@unittest.skipIf(openai is None, "the openai package is not installed")
class OpenAI(Case):
    def sdk(self, proxy: str) -> Any:
        base_url = f"{self.provider.url}/v1"
        return farthing.openai_client(self.context(proxy), base_url=base_url, api_key="sk-1", max_retries=0)

    def test_a_chat_and_a_stream_through_the_proxy(self) -> None:
        with self.sdk(self.proxy.url) as sdk:
            answer = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "ping"}])
            self.assertEqual(answer.choices[0].message.content, "pong")
            stream = sdk.chat.completions.create(model="m", messages=[], stream=True)
            self.assertEqual([chunk.choices[0].delta.content for chunk in stream], ["po"])
        self.assertEqual([seen["path"] for seen in self.proxy.seen], ["/openai/v1/chat/completions"] * 2)
        self.assertEqual(self.proxy.seen[0]["headers"]["x-farthing-tags"], "team=maps,env=test")
        self.assertEqual(self.provider.seen, [])

    def test_without_the_proxy_it_calls_the_provider(self) -> None:
        with self.assertLogs("farthing", logging.WARNING), self.sdk(closed_port()) as sdk:
            answer = sdk.chat.completions.create(model="m", messages=[])
        self.assertEqual(answer.choices[0].message.content, "pong")
        self.assertEqual([seen["path"] for seen in self.provider.seen], ["/v1/chat/completions"])

    def test_asynchronous_sdk(self) -> None:
        async def chat() -> str | None:
            sdk = farthing.async_openai_client(self.context(), base_url=f"{self.provider.url}/v1", api_key="sk-1")
            async with sdk:
                return (await sdk.chat.completions.create(model="m", messages=[])).choices[0].message.content

        self.assertEqual(asyncio.run(chat()), "pong")


if __name__ == "__main__":
    unittest.main()
