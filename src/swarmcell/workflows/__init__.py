"""One plain function per command: takes values, returns a result, reports progress to an observer; prints nothing."""
