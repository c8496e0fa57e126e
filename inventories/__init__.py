"""Example inventories, one per topology of the guide."""
