"""Tests of what carries a topology."""
