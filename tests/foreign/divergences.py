"""Shows every hostile token to every foreign verifier and compares what they accept with docs/verifiers.md.

    divergences.py VECTORS            fails unless the committed table is the one found now
    divergences.py VECTORS --write    writes it

That a library takes a token we refuse (another `typ`, say) is a divergence, and listed. That it takes one whose
signature is not ours would be a forgery, and fails.
"""

import base64
import difflib
import json
import pathlib
import subprocess
import sys
from importlib.metadata import version

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import verifiers
from checks import check

HERE = pathlib.Path(__file__).parent
TABLE = HERE.parent.parent / "docs" / "verifiers.md"


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def genuine(token, jwks):
    """Whether a key of ours signed exactly these bytes, asked of OpenSSL rather than of a library under test."""
    try:
        signed, _, signature = token.rpartition(".")
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


def python_accepts(vectors):
    found = {}
    for name, verify in verifiers.all_of(vectors["jwks"], vectors["issuer"], vectors["audience"]).items():
        found[name] = set()
        for vector in vectors["vectors"]:
            try:
                verify(vector["token"])
                found[name].add(vector["name"])
            except verifiers.OWN_ERRORS:
                pass
            except Exception as error:
                print(f"note: {name} meets {vector['name']} with {type(error).__name__}, not with an error of its own")
    return found


def node_accepts(text):
    answer = subprocess.run(["node", HERE / "hostile.mjs"], input=text, stdout=subprocess.PIPE, text=True, check=True)
    return {name: set(accepted) for name, accepted in json.loads(answer.stdout).items()}


def table(vectors, accepts):
    """Rows where somebody differs from us, in the vectors' own order."""
    lines = [
        "| token | we say | " + " | ".join(accepts) + " |",
        "|---|---|" + "---|" * len(accepts),
    ]
    for vector in vectors["vectors"]:
        cells = ["accepts" if vector["name"] in taken else "·" for taken in accepts.values()]
        if vector["expect_code"] and "accepts" in cells:
            lines.append(f"| {vector['name']} | {vector['expect_code']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(vectors, accepts):
    node = json.loads((HERE / "package.json").read_text())["dependencies"]
    versions = {name: version(name) for name in ("PyJWT", "joserfc", "Authlib")} | node
    hostile = sum(1 for vector in vectors["vectors"] if vector["expect_code"])
    return (HERE / "verifiers.md.in").read_text().format(
        count=hostile, versions=", ".join(f"{name} {pinned}" for name, pinned in versions.items()), table=table(vectors, accepts)
    )


text = pathlib.Path(sys.argv[1]).read_text()
vectors = json.loads(text)
accepts = python_accepts(vectors) | node_accepts(text)
for vector in vectors["vectors"]:
    takers = [name for name, taken in accepts.items() if vector["name"] in taken]
    if vector["expect_code"] is None:
        check(len(takers) == len(accepts), f"{vector['name']}: every library accepts the token that is good")
    elif takers:
        check(genuine(vector["token"], vectors["jwks"]), f"{vector['name']}: accepted by {', '.join(takers)}, not forged")
check(any(vector["expect_code"] is None for vector in vectors["vectors"]), "the good token is among those shown")

found = page(vectors, accepts)
if "--write" in sys.argv:
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(found)
committed = TABLE.read_text() if TABLE.exists() else ""
sys.stdout.writelines(difflib.unified_diff(committed.splitlines(True), found.splitlines(True), "committed", "found"))
check(found == committed, f"docs/verifiers.md is what was found: {len(vectors['vectors'])} tokens, {len(accepts)} libraries")
