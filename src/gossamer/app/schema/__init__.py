"""What the routes answer and take, a file a view.

The page's TypeScript types are made of these, so that neither side can drift.
"""
