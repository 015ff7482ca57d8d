"""Image generators (stage two): video-to-video translation of label maps to RGB; vid2vid."""
