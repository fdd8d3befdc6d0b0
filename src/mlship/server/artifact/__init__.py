"""What a model file is, found out by looking at it: bytes, opcodes, syntax trees and YAML; nothing is executed."""
