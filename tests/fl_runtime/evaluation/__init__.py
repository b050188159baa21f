"""Tests of the attack-vs-defence evaluation and its report."""
