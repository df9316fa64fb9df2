"""Dynamic mixed precision: each layer computes in 16 bit while its gradients are stable."""
