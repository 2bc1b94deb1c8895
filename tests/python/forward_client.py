"""Asks URLs as programs do that find their proxy in the environment: with requests, with httpx and with the standard library.

Arguments: URLs. Each client asks each of them; printed is JSON: for each client a list of [status, body, Cache-Status, Via].
"""

import json
import sys
import urllib.error
import urllib.request


def by_requests(url):
    import requests

    answer = requests.get(url, timeout=30)
    return answer.status_code, answer.text, answer.headers


def by_httpx(url):
    import httpx

    with httpx.Client(timeout=30) as client:
        answer = client.get(url)
        return answer.status_code, answer.text, answer.headers


def by_urllib(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def asked(client, url):
    try:
        status, body, headers = client(url)
    except Exception as error:
        return [0, f"{type(error).__name__}: {error}", None, None]
    return [status, body, headers.get("cache-status"), headers.get("via")]


clients = {"requests": by_requests, "httpx": by_httpx, "urllib": by_urllib}
print(json.dumps({name: [asked(client, url) for url in sys.argv[1:]] for name, client in clients.items()}))
