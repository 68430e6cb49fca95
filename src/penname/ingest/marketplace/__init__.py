"""The fictional marketplace: invented products, writers and reviews.

phrases/          the grammar's text: what is said about each kind of product, and the facts
grammar.py        expands a grammar, without repeating itself within a review
products.py       invented products with facts of their own, in the Amazon metadata layout
writers.py        personas: how a user writes, stable over that user's reviews
composition.py    one review: which statements in which order, and how long
dirt.py           what is wrong with real data: markup, empty texts, duplicates, other languages, personal data
"""
