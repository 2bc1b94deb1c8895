"""Drives OpenAI's own client against a base URL: plain, streamed, repeated. Prints one JSON object; used by the end-to-end tests.

usage: openai_client.py BASE_URL KEY
"""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0, timeout=20)
question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What does a farthing buy?"}]}

plain = client.chat.completions.with_raw_response.create(**question)
again = client.chat.completions.with_raw_response.create(**question)
chunks = list(client.chat.completions.create(**question, stream=True))
try:
    client.post("/chat/completions", body={"model": "gpt-4o"}, cast_to=object)
    refused = None
except openai.APIStatusError as error:
    refused = error.status_code

print(
    json.dumps(
        {
            "text": plain.parse().choices[0].message.content,
            "tokens": plain.parse().usage.total_tokens,
            "request_id": plain.headers.get("x-farthing-request-id"),
            "cache_status": [plain.headers.get("cache-status"), again.headers.get("cache-status")],
            "streamed": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
            "refused": refused,
        }
    )
)
