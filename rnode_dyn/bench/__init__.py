"""What training steps take on this machine."""
