"""Shows every hostile token to every foreign verifier and compares what they accept with docs/verifiers.md.

    divergences.py VECTORS            fails unless the committed table is the one found now
    divergences.py VECTORS --write    writes it

That a library takes a token we refuse (another `typ`, say) is a divergence, and listed. That it takes one whose
signature is not ours would be a forgery, and fails.
"""

import base64
import datetime
import difflib
import json
import pathlib
import re
import subprocess
import sys
import time
from importlib.metadata import version

import jwt.api_jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import verifiers
from checks import check

HERE = pathlib.Path(__file__).parent
TABLE = HERE.parent.parent / "docs" / "verifiers.md"


def decoded(text):
    """Base64url in any spelling: whether bytes are ours is asked here, not whether they are written well."""
    letters = re.sub("[^A-Za-z0-9_-]", "", text.replace("+", "-").replace("/", "_"))
    return base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4))


def genuine(token, jwks):
    """Whether a key of ours signed exactly these bytes, asked of OpenSSL rather than of a library under test.

    Without the blanks around it, which are no part of the token in a header field (RFC 9110 section 5.5).
    """
    try:
        signed, _, signature = token.strip().rpartition(".")
        signature = decoded(signature)
        if signed.count(".") != 1:
            return False
    except ValueError:
        return False
    for key in jwks["keys"]:
        try:
            Ed25519PublicKey.from_public_bytes(decoded(key["x"])).verify(signature, signed.encode())
            return True
        except (InvalidSignature, ValueError):
            continue
    return False


def stop_the_clock(now):
    """The tokens lie on the edges of their times: every verifier is asked as of the moment they were made for."""

    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(now, tz)

    time.time = lambda: float(now)
    jwt.api_jwt.datetime = Stopped


def python_answers(vectors):
    """By library and token: `accepts`, `refuses`, or the exception that is none of the library's own."""
    answers = {}
    for library, verify in verifiers.all_of(vectors["jwks"], vectors["issuer"], vectors["audience"]).items():
        answers[library] = {vector["name"]: answer(verify, vector["token"]) for vector in vectors["vectors"]}
    return answers


def answer(verify, token):
    try:
        verify(token)
        return "accepts"
    except verifiers.OWN_ERRORS:
        return "refuses"
    except Exception as error:
        return type(error).__name__


def node_answers(text):
    told = subprocess.run(["node", HERE / "hostile.mjs"], input=text, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(told.stdout)


def of_the_machine(name):
    """What the interpreter's stack, its OpenSSL or the luck of a fresh key decides: it differs from run to run."""
    return name.endswith("_bottomless") or name == "signature_small_order_r" or name.startswith("standard_alphabet_")


def differing(vectors, answers):
    """Per token on which somebody differs from us: its name, what we say, and who differs."""
    rows = []
    for vector in vectors["vectors"]:
        name, good = vector["name"], vector["expect_code"] == "accepted"
        who = [library for library, said in answers.items() if (said[name] == "accepts") != good]
        if who and not of_the_machine(name):
            rows.append((name, vector["expect_code"], who))
    return rows


def table(rows, answers):
    head = ["token", "we say", *answers]
    lines = [head, ["---"] * len(head)]
    for name, code, who in rows:
        differs = "refuses" if code == "accepted" else "accepts"
        lines.append([f"`{name}`", f"`{code}`", *(differs if library in who else "·" for library in answers)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def grouped(rows):
    by_code = {}
    for name, code, _ in rows:
        by_code.setdefault(code, []).append(f"`{name}`")
    return "\n".join(f"- `{code}`: {', '.join(names)}" for code, names in by_code.items())


def surprises(answers):
    lines = []
    for library, said in answers.items():
        own = {"accepts", "refuses"}
        names = [name for name, what in said.items() if what not in own and not of_the_machine(name)]
        if names:
            lines.append(f"- {library}: " + ", ".join(f"`{name}`" for name in names))
    return "\n".join(lines)


def page(vectors, answers):
    node = json.loads((HERE / "package.json").read_text())["dependencies"]
    versions = {name: version(name) for name in ("PyJWT", "joserfc", "Authlib")}
    versions |= {name: node[name] for name in ("jose", "oauth4webapi")}
    rows = differing(vectors, answers)
    return (HERE / "verifiers.md.in").read_text().format(
        count=sum(1 for vector in vectors["vectors"] if vector["expect_code"] != "accepted"),
        versions=", ".join(f"{name} {pinned}" for name, pinned in versions.items()),
        some=table([row for row in rows if len(row[2]) < len(answers)], answers),
        all=grouped([row for row in rows if len(row[2]) == len(answers)]),
        surprises=surprises(answers),
    )


text = pathlib.Path(sys.argv[1]).read_text()
vectors = json.loads(text)
stop_the_clock(vectors["now"])
answers = python_answers(vectors) | node_answers(text)
for library, said in answers.items():
    check(said["good"] == "accepts", f"{library} accepts the good token")
for vector in vectors["vectors"]:
    takers = [library for library, said in answers.items() if said[vector["name"]] == "accepts"]
    if takers:
        check(genuine(vector["token"], vectors["jwks"]), f"{vector['name']}: not forged, accepted by {', '.join(takers)}")

found = page(vectors, answers)
if "--write" in sys.argv:
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(found)
committed = TABLE.read_text() if TABLE.exists() else ""
sys.stdout.writelines(difflib.unified_diff(committed.splitlines(True), found.splitlines(True), "committed", "found"))
check(found == committed, f"docs/verifiers.md is what was found: {len(vectors['vectors'])} tokens, {len(answers)} libraries")
