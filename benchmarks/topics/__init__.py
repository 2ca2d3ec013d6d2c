"""Publish to many subscribers: asgiws.topics beside the other ways to do it."""
