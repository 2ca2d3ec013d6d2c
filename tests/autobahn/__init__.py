"""Autobahn|Testsuite against a real server: ``python -m tests.autobahn``.

All 517 cases of the fuzzing client: every MUST of RFC 6455 and RFC 7692 that a client
can put to the test. ``suite`` installs the fuzzing client, ``apps`` holds the two
applications it talks to, ``run`` starts the server and the clients, ``cuts`` is a proxy
that splits what the clients send, ``__main__`` decides what runs and what counts.
"""
