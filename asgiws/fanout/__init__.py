"""Topics: a message is published once and reaches every socket that has subscribed."""
