"""What finds secrets in what was written."""

import base64
import gzip
import json
from urllib.parse import quote

import pytest
from leaks import leaks

SECRET = 's3cr3t/of "ácme"+&'
FORMS = {
    "as it is": SECRET.encode(),
    "in Latin-1": SECRET.encode("latin-1"),
    "its begin": SECRET[:10].encode(),
    "its end": SECRET[-10:].encode(),
    "as a URL": quote(SECRET, safe="").encode(),
    "as a path": quote(SECRET).lower().encode(),
    "as hex": SECRET.encode().hex().encode(),
    "as JSON": json.dumps({"key": SECRET}).encode(),
    "as HTML": b"s3cr3t/of &#34;\xc3\xa1cme&#34;+&amp;",
    "packed": gzip.compress(SECRET.encode()),
    **{
        f"as base64 after {len(user)} bytes": base64.b64encode(f"{user}{SECRET}".encode())
        for user in ("", "a", "ab", "abc:", "acme:")
    },
    "as base64 for URLs": base64.urlsafe_b64encode(f"ab{SECRET}".encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form(form: str) -> None:
    """Each way of writing a secret is told."""
    assert leaks([SECRET], b"nothing", b"a line with " + FORMS[form] + b" in it")[:1] or form == "packed"
    assert leaks([SECRET], FORMS[form])


def test_other_texts_hold_no_secret() -> None:
    """What is no secret is not told, and an empty secret is a mistake of the caller's."""
    assert leaks([SECRET, "other-s3cret"], b"s3cr3t of acme", b"", gzip.compress(b"[redacted]")[:-3]) == []
    with pytest.raises(ValueError, match="everywhere"):
        leaks([""], b"x")
