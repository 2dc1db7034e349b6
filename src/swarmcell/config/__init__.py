"""The TOML files that a user writes, as frozen values. Unknown keys are errors."""
