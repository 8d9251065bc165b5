"""Tests of bnncc.runtime."""
