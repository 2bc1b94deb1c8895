"""Asks OpenAI's own client for completions until a budget is used up. Prints one JSON object; used by the end-to-end tests.

usage: openai_budget.py BASE_URL KEY
"""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0, timeout=20)
question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What does a farthing buy?"}]}


def ask(**more):
    try:
        client.chat.completions.create(**question, **more)
        return None
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code, "type": error.type}


unbounded = ask()
answered = 0
while (refused := ask(max_tokens=200)) is None and answered < 1000:
    answered += 1
print(json.dumps({"unbounded": unbounded, "answered": answered, "refused": refused}))
