"""The pages that an account's owner sees: one question with one button, and the end of each way that leads nowhere else.

They have no script and load nothing.
"""
