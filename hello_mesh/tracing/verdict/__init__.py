"""Is it one trace, and which service broke it?"""
