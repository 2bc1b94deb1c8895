"""A GraphQL server on its standard input: one request as JSON in each line, its answer in a line."""

import json
import sys

from graphql import build_schema, graphql_sync

SCHEMA = build_schema(
    """
    interface Node { id: ID! }
    type User implements Node { id: ID! name: String friends(first: Int = 2): [User] broken: String strict: Int! }
    type Item implements Node { id: ID! price: Float owner: User }
    input Filter { text: String = "a", sizes: [Int!], inner: Filter }
    type Query {
      user(id: ID!): User
      node(id: ID!): Node
      echo(text: String, n: Int, f: Float, flag: Boolean, filter: Filter, ids: [ID!]): String
      fails(code: Int): String
      needed(fail: Boolean = false): Int!
    }
    """
)


def user(key):
    return {
        "__typename": "User",
        "id": key,
        "name": f"user {key}",
        "friends": lambda info, first=2: [user(f"{key}{n}") for n in range(min(first, 3))],
        "broken": lambda info: fail(f"broken {key}") if key.endswith("1") else "whole",
        "strict": lambda info: fail(f"strict {key}") if key.endswith("2") else 7,
    }


def item(key):
    return {"__typename": "Item", "id": key, "price": 1.5, "owner": lambda info: user(key)}


def fail(text):
    raise ValueError(text)


ROOT = {
    "user": lambda info, id: user(id),
    "node": lambda info, id: item(id) if id.startswith("i") else user(id),
    "echo": lambda info, **given: json.dumps(given, sort_keys=True),
    "fails": lambda info, code=0: fail(f"code {code}") if code % 3 == 0 else f"well {code}",
    "needed": lambda info, fail=False: globals()["fail"]("needed") if fail else 1,
}

for line in sys.stdin:
    request = json.loads(line)
    result = graphql_sync(SCHEMA, request["query"], ROOT, variable_values=request.get("variables"), operation_name=request.get("operationName"))
    print(json.dumps(result.formatted), flush=True)
