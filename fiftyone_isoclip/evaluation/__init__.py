"""Evidence: metrics, the methods that are compared, tuning, data sets of the paper, and reports.

Names are loaded on first use.
"""
