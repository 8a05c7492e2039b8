"""Networks and training steps written independently, to compare the real ones with."""
