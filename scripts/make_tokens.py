#!/usr/bin/env python3
"""Makes the tokens of crates/proxy/testdata/tokens, by an implementation that is not ours.

    python3 -m venv target/pyjwt && target/pyjwt/bin/pip install 'pyjwt[crypto]'
    target/pyjwt/bin/python scripts/make_tokens.py

The keys are made anew each time and are for tests alone; private ones are kept nowhere.
"""

import base64
import hashlib
import hmac
import json
import pathlib

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

OUT = pathlib.Path(__file__).resolve().parent.parent / "crates/proxy/testdata/tokens"
SECRET = "a secret of tests alone, at least sixty-four characters long, so that HS512 takes it"
NBF, EXP = 1_000_000_000, 4_000_000_000
CLAIMS = {"iss": "https://idp.test", "aud": "farthing", "nbf": NBF, "exp": EXP, "tenant": "acme", "team": "search"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value) -> str:
    return b64(json.dumps(value).encode())


def pem(key) -> str:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(key, name, algorithm, **more):
    maker = jwt.get_algorithm_by_name(algorithm)
    made = maker.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": name, **more}


rs, other_rs, es, es384, ed = (
    rsa.generate_private_key(65537, 2048),
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
)
keys = {
    "keys": [
        jwk(rs, "rs", "RS256", use="sig"),
        jwk(es, "es", "ES256", alg="ES256"),
        jwk(es384, "es384", "ES384"),
        jwk(ed, "ed", "EdDSA"),
        # Left out: for encryption, a secret, a curve that is not known, no key at all.
        jwk(other_rs, "enc", "RS256", use="enc"),
        {"kty": "oct", "kid": "oct", "k": b64(SECRET.encode())},
        {"kty": "EC", "crv": "secp256k1", "kid": "k1", "x": "AA", "y": "AA"},
        {"kid": "nothing"},
    ]
}
rotated = {"keys": [jwk(other_rs, "new", "RS256")]}


def token(key, algorithm, name=None, headers=None, **claims):
    payload = {k: v for k, v in {**CLAIMS, **claims}.items() if v is not None}
    headers = {**({"kid": name} if name else {}), **(headers or {})}
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


def unsigned(header, payload=CLAIMS, signature=""):
    return f"{part(header)}.{part(payload)}.{signature}"


def by_hmac(key: bytes, header, payload=CLAIMS):
    """What PyJWT refuses to make: a public key used as a secret."""
    message = f"{part(header)}.{part(payload)}"
    return f"{message}.{b64(hmac.new(key, message.encode(), hashlib.sha256).digest())}"


good_rs = token(rs, "RS256", "rs")
head, body, sign = good_rs.split(".")
unpadded = next(text for text in (part({**CLAIMS, "n": "x" * k}) for k in range(4)) if len(text) % 4 == 2)
padded = unpadded + "=="
twice = json.dumps(CLAIMS).replace('{"iss"', '{"iss": "https://other.test", "iss"').encode()
good = {
    "RS256": good_rs,
    "RS384": token(rs, "RS384", "rs"),
    "RS512": token(rs, "RS512", "rs"),
    "PS256": token(rs, "PS256", "rs"),
    "PS384": token(rs, "PS384", "rs"),
    "PS512": token(rs, "PS512", "rs"),
    "ES256": token(es, "ES256", "es"),
    "ES384": token(es384, "ES384", "es384"),
    "EdDSA": token(ed, "EdDSA", "ed"),
}
secrets = {name: token(SECRET, name) for name in ("HS256", "HS384", "HS512")}
hostile = {
    "alg none": [unsigned({"alg": "none", "kid": "rs"}), "token-algorithm"],
    "alg None": [unsigned({"alg": "None", "kid": "rs"}), "token-algorithm"],
    "alg none with the signature of a good one": [unsigned({"alg": "none", "kid": "rs"}, CLAIMS, sign), "token-algorithm"],
    "no alg": [unsigned({"kid": "rs"}), "token-algorithm"],
    "the public key as a secret": [by_hmac(pem(rs).encode(), {"alg": "HS256", "kid": "rs"}), "token-algorithm"],
    "a secret of the set": [token(SECRET, "HS256", "oct"), "token-algorithm"],
    "no signature": [f"{head}.{body}.", "token-signature"],
    "another's signature": [token(other_rs, "RS256", "rs"), "token-signature"],
    "a changed payload": [f"{head}.{part({**CLAIMS, 'tenant': 'other'})}.{sign}", "token-signature"],
    "a changed head": [f"{part({'alg': 'RS512', 'kid': 'rs'})}.{body}.{sign}", "token-signature"],
    "an EC key for RSA": [token(rs, "RS256", "es"), "token-unknown-key"],
    "a key for encryption": [token(other_rs, "RS256", "enc"), "token-unknown-key"],
    "an unknown key": [token(other_rs, "RS256", "who"), "token-unknown-key"],
    "a path as the key's name": [token(other_rs, "RS256", "../../dev/null"), "token-unknown-key"],
    "SQL as the key's name": [token(other_rs, "RS256", "rs' OR '1'='1"), "token-unknown-key"],
    "a key that the token brings along": [
        token(other_rs, "RS256", "mine", {"jwk": jwk(other_rs, "mine", "RS256")}),
        "token-unknown-key",
    ],
    "a place of keys that the token brings along": [
        token(other_rs, "RS256", "mine", {"jku": "https://evil.test/jwks.json"}),
        "token-unknown-key",
    ],
    "a critical field": [token(rs, "RS256", "rs", {"crit": ["later"], "later": 1}), "token-malformed"],
    "meant for others": [token(rs, "RS256", "rs", aud="other"), "token-audience"],
    "meant for several others": [token(rs, "RS256", "rs", aud=["other", "third"]), "token-audience"],
    "meant for nobody": [token(rs, "RS256", "rs", aud=None), "token-audience"],
    "meant for ever": [token(rs, "RS256", "rs", exp=None), "token-expired"],
    "an end that is no time": [token(rs, "RS256", "rs", exp="never"), "token-expired"],
    "an end before all time": [token(rs, "RS256", "rs", exp=-5), "token-expired"],
    "a start that is no time": [token(rs, "RS256", "rs", nbf="soon"), "token-claims"],
    "two issuers": [f"{head}.{b64(twice)}.{sign}", None],
    "no tenant": [token(rs, "RS256", "rs", tenant=None), "token-claims"],
    "the tenant of nobody": [token(rs, "RS256", "rs", tenant="anonymous"), "token-claims"],
    "a tenant that is none": [token(rs, "RS256", "rs", tenant="a/b"), "token-claims"],
    "a payload that is cut": [f"{head}.{body[:-1]}.{sign}", None],
    "another issuer": [token(other_rs, "RS256", "rs", iss="https://other.test"), None],
    "no issuer": [token(rs, "RS256", "rs", iss=None), None],
    "two parts": [f"{head}.{body}", None],
    "five parts": [f"{head}.{body}.{sign}.a.b", None],
    "a head that is no base64": [f"ey!!.{body}.{sign}", "token-malformed"],
    "a signature that is no base64": [f"{head}.{body}.!!", "token-malformed"],
    "a padded payload": [f"{head}.{padded}.{sign}", "token-signature"],
    "a long one": [token(rs, "RS256", "rs", note="x" * 9000), "token-too-long"],
}

OUT.mkdir(parents=True, exist_ok=True)
(OUT / "jwks.json").write_text(json.dumps(keys, indent=1) + "\n")
(OUT / "rotated.json").write_text(json.dumps(rotated, indent=1) + "\n")
(OUT / "rs.pub.pem").write_text(pem(rs))
(OUT / "tokens.json").write_text(
    json.dumps(
        {
            "secret": SECRET,
            "good": good,
            "secrets": secrets,
            "rotated": token(other_rs, "RS256", "new"),
            "in several audiences": token(rs, "RS256", "rs", aud=["other", "farthing"]),
            "without a name": token(rs, "RS256"),
            "another tenant": token(rs, "RS256", "rs", tenant="other"),
            "hostile": hostile,
        },
        indent=1,
    )
    + "\n"
)
