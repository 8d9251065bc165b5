"""Tests of bnncc.codegen."""
