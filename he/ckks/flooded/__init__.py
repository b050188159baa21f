"""CKKS with a key holder: integers in coefficients, room for noise, a budget of openings."""
