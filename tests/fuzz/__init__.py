"""Random streams of frames against a plain model, against other libraries, and against time."""
