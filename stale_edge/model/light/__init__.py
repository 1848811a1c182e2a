"""A light detector: a max-pool pyramid that finds segments of any class, named by cosines with class embeddings."""
