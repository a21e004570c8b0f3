"""Neural parts that two or more methods share. They know tensors, not pictures or labels."""
