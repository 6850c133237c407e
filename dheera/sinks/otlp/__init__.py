"""
OpenTelemetry: a span and measures of each call, in the words of the GenAI semantic conventions, by OTLP over HTTP.
"""

from dheera.sinks.otlp.factory import FACTORY

__all__ = ["FACTORY"]
