"""The stand-in for ElastiCache's control plane: it detects, promotes and replaces."""
