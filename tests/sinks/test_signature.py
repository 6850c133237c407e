from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.keys import Secret
from dheera.sinks.signature import Credentials, Signer

MAY = datetime(2013, 5, 24, tzinfo=UTC)
ADA = Credentials(key_id="AKIAIOSFODNN7EXAMPLE", secret=Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
"""
Amazon's own examples, "Signature Calculations for the Authorization Header" of the S3 API reference.
"""
BUCKET = "https://examplebucket.s3.amazonaws.com"


def signed(method: str, url: str, headers: dict[str, str], content: bytes = b"") -> dict[str, str]:
    """
    The header lines of a request of Amazon's examples.
    """
    return Signer(credentials=ADA, region="us-east-1").signed(method, url, headers, content, MAY)


class TestVectors(SynchronousTestCase):
    """
    What Amazon has calculated.
    """

    def test_put(self) -> None:
        """
        An object with a strange name and header lines of its own.
        """
        headers = {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
        lines = signed("PUT", f"{BUCKET}/test%24file.text", headers, b"Welcome to Amazon S3.")
        self.assertEqual(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, "
            "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            lines["Authorization"],
        )
        self.assertEqual(
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072", lines["x-amz-content-sha256"]
        )

    def test_get(self) -> None:
        """
        A part of an object, without content.
        """
        lines = signed("GET", f"{BUCKET}/test.txt", {"Range": "bytes=0-9"})
        self.assertEqual(
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            lines["Authorization"].rpartition("Signature=")[2],
        )


class TestSigner(SynchronousTestCase):
    def test_unchanged(self) -> None:
        """
        The header lines that are signed go as they were given.
        """
        lines = signed("PUT", f"{BUCKET}/a", {"Content-Type": "application/gzip"})
        self.assertEqual("application/gzip", lines["Content-Type"])
        self.assertIn("SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date,", lines["Authorization"])

    def test_token(self) -> None:
        """
        The token of temporary credentials is sent, and signed.
        """
        temporary = Credentials(key_id=ADA.key_id, secret=ADA.secret, token=Secret("temporary-token"))
        lines = Signer(credentials=temporary, region="us-east-1").signed("PUT", f"{BUCKET}/a", {}, b"", MAY)
        self.assertEqual("temporary-token", lines["x-amz-security-token"])
        self.assertIn(";x-amz-security-token,", lines["Authorization"])

    @given(st.text(), st.text())
    def test_spelling(self, one: str, other: str) -> None:
        """
        However the path is percent-encoded, it is signed as what it says: services decode it before they look.
        """
        name = f"/{one}/{other}"
        every = "".join(f"%{each:02X}" for each in name.encode("utf-8", "surrogatepass"))
        usual = signed("PUT", BUCKET + quote(name.encode("utf-8", "surrogatepass")), {})
        self.assertEqual(usual["Authorization"], signed("PUT", f"{BUCKET}/{every[3:]}", {})["Authorization"])

    def test_hidden(self) -> None:
        """
        Nothing that can be printed shows a secret.
        """
        signer = Signer(credentials=ADA, region="us-east-1")
        self.assertNotIn("wJalrXUt", repr(signer) + repr(ADA))
