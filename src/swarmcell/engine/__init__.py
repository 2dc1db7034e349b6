"""The Log port, and the engines that order and store the log."""
