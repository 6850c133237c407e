"""
``twistd dheera``. Strings only: listing plugins must not import the program.
"""

from twisted.application.service import ServiceMaker

dheera = ServiceMaker("dheera", "dheera.tap", "A gateway in front of the Mistral API.", "dheera")
