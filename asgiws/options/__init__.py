"""Every option: declared once, checked where it is read, whatever source it comes from."""
