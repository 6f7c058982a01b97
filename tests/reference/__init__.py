"""Slow, literal versions written from the papers' equations; nothing here imports datawinnow."""
