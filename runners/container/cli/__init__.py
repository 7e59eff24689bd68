"""The command line ``tare-oci``: one module a verb, and what verbs alone need."""
