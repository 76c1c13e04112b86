"""Evaluation without API spend: does fusion pay on this machine, and can its judge be trusted?

A panel answers every sample once; everything behind it runs again and again on those recorded
answers, so that arms differ in nothing but what is compared. docs/evaluation.md has the method.
"""
