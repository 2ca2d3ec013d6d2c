"""The life of a process: its start, its signals, its sockets, its application, its end."""
