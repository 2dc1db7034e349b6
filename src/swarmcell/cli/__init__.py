"""The commands: parse options, call one workflow, render its result. The only place that knows exit codes."""
