"""Other people's frameworks and clients, each over a real socket to a real asgiws.

``apps`` holds one application for each. Those of the frameworks (``test_frameworks.py``) keep the
same contract:

- ``GET /``: the name of the framework
- ``/echo``: every message comes back as its type; of the subprotocols offered
  ``echo.v1`` is chosen; a message ``boom`` is an exception
- ``/close``: accepted, and closed with 4001 and the reason ``done``
- ``/deny``: refused with 403

and some have a path more for what is special about them. The others do what their users do with
them, and each is used by its own client or in Chromium. Those that hold connections open are asked
to end while they are in use (``conftest.InUse``).

Their dependencies are the extra ``compat``, so everything here is marked slow.
"""
