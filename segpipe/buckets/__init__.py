"""Object storage: S3 and what speaks as it does, Google Cloud Storage, Azure.

What a store and the readers of images share: the client, its patience, and the meaning of errors.
"""
