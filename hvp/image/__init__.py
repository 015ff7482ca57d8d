"""Stage two: the image generator that turns label maps into RGB video (vid2vid)."""
