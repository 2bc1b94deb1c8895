"""Asks OpenAI's own client for completions until a rate limit refuses one, then lets the client come back by itself. Prints one JSON object; used by
the end-to-end tests.

usage: openai_limit.py BASE_URL KEY
"""

import json
import sys
import time

import openai

headers = {"x-farthing-priority": "low"}
question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What does a farthing buy?"}]}


def client(retries):
    return openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=retries, timeout=20, default_headers=headers)


impatient = client(0)
answered, refused = 0, None
while refused is None and answered < 1000:
    try:
        impatient.chat.completions.create(**question, user=str(answered))
        answered += 1
    except openai.APIStatusError as error:
        told = {name: error.response.headers.get(name) for name in ("retry-after", "ratelimit", "ratelimit-policy")}
        refused = {"class": type(error).__name__, "status": error.status_code, "code": error.code, **told}
began = time.monotonic()
again = client(3).chat.completions.create(**question, user="again")
print(
    json.dumps(
        {
            "answered": answered,
            "refused": refused,
            "again": bool(again.choices),
            "seconds": time.monotonic() - began,
        }
    )
)
