"""A Kubernetes API server for tests. It implements what kubectl and the scripts use, and nothing else.

Its behavior was compared with a real kube-apiserver 1.37 and kubectl 1.37: messages, status codes, default
values and field managers.
"""
