"""One running peer: its identity, its own verified ledger, its loop. Knows entries and bytes, never cells."""
