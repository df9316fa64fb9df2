"""What an all-reduce would take, by a cost model: nothing in here is measured.

`model` says what each algorithm sends and computes, `published` what that costs on an NCCL
cluster by figures others have published, `fit` what it costs by a benchmark's, and `outlook`
what follows for other sizes and numbers of nodes.
"""
