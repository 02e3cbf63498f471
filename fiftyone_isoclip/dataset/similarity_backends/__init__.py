"""Similarity indexes in other databases: the same searches as `faiss`, where the vectors lie."""
