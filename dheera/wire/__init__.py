"""
HTTP/1.1 on Twisted transports, parsed by llhttp (``httptools``): the channel below ``Site`` and the
``IAgent`` below treq. Knows nothing of Mistral, keys or money; imports nothing of ours but ``errors``.
"""
