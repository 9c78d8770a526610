"""Pure decisions on plain data: which header fields, bodies and requests go where."""
