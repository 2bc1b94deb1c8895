"""Drives Anthropic's own client against a base URL: a long system prompt asked about again and again, plain and streamed. Prints one JSON object;
used by the end-to-end tests.

usage: anthropic_client.py BASE_URL KEY
"""

import json
import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0, timeout=20)
system = "You know what a farthing buys. " + "word " * 3000
tools = [{"name": "look_up", "description": "Looks a price up.", "input_schema": {"type": "object", "properties": {"of": {"type": "string"}}}}]


def ask(text, **more):
    return dict({"model": "claude-sonnet-4-5", "max_tokens": 64, "system": system, "messages": [{"role": "user", "content": text}]}, **more)


def counts(usage):
    return [usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens]


told = {"usage": [], "texts": []}
for turn in range(4):
    answer = client.messages.create(**ask(f"What does a farthing buy in year {turn}?"))
    told["usage"].append(counts(answer.usage))
    told["texts"].append(answer.content[0].text)
with client.messages.stream(**ask("And streamed?")) as stream:
    told["streamed"] = "".join(stream.text_stream)
    told["usage"].append(counts(stream.get_final_message().usage))
# A tool's answer, and content as a list.
talk = [
    {"role": "user", "content": [{"type": "text", "text": "Look it up."}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"of": "farthing"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a loaf"}]},
]
for _ in range(3):
    told["tools"] = counts(client.messages.create(**ask("", tools=tools, messages=talk)).usage)
# Marked by the client itself: its own marks count, and no others.
own = [{"type": "text", "text": "My own. " + "mine " * 2000, "cache_control": {"type": "ephemeral"}}]
for _ in range(2):
    told["own"] = counts(client.messages.create(**ask("Mine?", system=own)).usage)
try:
    client.messages.create(model="claude-sonnet-4-5", max_tokens=5, messages=[])
    told["refused"] = None
except anthropic.APIStatusError as error:
    told["refused"] = error.status_code

print(json.dumps(told))
