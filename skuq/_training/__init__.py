"""How networks are trained: the loop, who trains with whom, where, and what held-out rows say of the noise."""
