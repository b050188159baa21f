"""CKKS: `flooded` with a key holder, `slots` under a key that clients share."""
