"""Adapters connect refreshd to the outside world, with one wing per part of it. Structurally they match the
ports of `refreshing`.
"""
