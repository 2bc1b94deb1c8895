"""Asks OpenAI's own client for embeddings of texts and of lists of them, and compares each vector with its text. Prints one JSON object; used by the
end-to-end tests.

usage: openai_embeddings.py BASE_URL KEY
"""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0, timeout=20)
texts = [f"a text with the number {n}" for n in range(100)]
wrong, items = [], []


def ask(asked):
    raw = client.embeddings.with_raw_response.create(model="gpt-4o", input=asked)
    answer = raw.parse()
    expected = [asked] if isinstance(asked, str) else asked
    found = [[one.index, one.embedding] for one in answer.data]
    right = [[n, [float(len(text)), float(sum(text.encode()))]] for n, text in enumerate(expected)]
    tokens = sum(len(text.split()) for text in expected)
    if found != right or answer.usage.total_tokens != tokens:
        wrong.append({"asked": asked, "found": found, "usage": answer.usage.total_tokens})
    if not isinstance(asked, str):
        items.append(raw.headers.get("x-farthing-items"))


def stored(asked):
    """Answers are stored a moment after their client has them: asks for each text until its copy answers."""
    for text in asked:
        for _ in range(1000):
            raw = client.embeddings.with_raw_response.create(model="gpt-4o", input=text)
            if "; hit" in raw.headers.get("cache-status", ""):
                break
        else:
            sys.exit(f"never stored: {text}")


ask(texts[5])
ask(texts[60])
stored([texts[5], texts[60]])
ask(texts[:70])
stored(texts[:70])
ask(texts[::-1])
stored(texts[70:])
ask([texts[3], texts[99], texts[3], texts[60]])
print(json.dumps({"wrong": wrong, "items": items}))
