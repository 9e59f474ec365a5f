"""Analyst questions with known answers, asked of the server through its real protocol; ``python -m evals`` prints how it went.

What is true comes from the simulated vendors alone (``truth.py``); who answers sees nothing but what the tools return.
"""
