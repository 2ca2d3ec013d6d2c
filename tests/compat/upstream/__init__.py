"""Starlette's and FastAPI's own tests of WebSockets, with asgiws between client and application.

Their tests call the application through Starlette's TestClient, in memory. ``over_a_socket``
is a pytest plugin that puts a real server and a real socket in between; the tests are those
of the installed versions, unchanged.
"""
