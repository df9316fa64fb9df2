"""What on this host, and in this job's settings, slows collectives down or breaks them.

Each check is a function of the file system's root and the environment, so that it can be tried on a
made-up machine; `examination` runs all. What a check takes for granted about NCCL was read in
NCCL 2.30's source (src/transport/net_ib, src/graph/search.cc) and in its documentation.
"""
