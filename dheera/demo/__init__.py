"""
A stand-in for Mistral, so that the first run needs no key and no network.

It answers the endpoints that people try first, in the shapes that the Mistral and OpenAI SDKs
read; it calls nobody, and forgets everything when the process ends. ``root`` holds the URL table.
"""

from dheera.demo.root import demo_root

__all__ = ["demo_root"]
