"""All options. Each is declared once, and checked where it is read, whatever its source."""
