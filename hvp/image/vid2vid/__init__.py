"""vid2vid (Wang et al. 2018): label maps and previous frames to the next frame."""
