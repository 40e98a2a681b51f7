"""HTTP on ems: utility operators, building controllers, residents."""
