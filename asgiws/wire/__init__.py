"""RFC 6455 and RFC 7692 as plain computation: no asyncio, no ASGI, no clock, no logging.

Read in the order of a byte's journey: ``handshake`` (section 4), ``frames``
(section 5), ``protocol`` (sections 5.4 to 7), ``deflate`` (RFC 7692).
"""
