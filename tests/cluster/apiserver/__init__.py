"""A Kubernetes API server for tests: what kubectl and our scripts can tell from a real one, and no more.

What it does was held against a real kube-apiserver 1.37 with kubectl 1.37: the messages, the status codes,
the fields that are filled in, who manages which field.
"""
