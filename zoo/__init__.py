"""How the default model ``neva-nano`` is made, from package registries to packed weights."""
