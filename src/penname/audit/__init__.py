"""The audit: a twin run with canaries, and what attacks find out from it. Nothing of it is ever released."""
