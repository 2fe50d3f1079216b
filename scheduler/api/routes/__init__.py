"""The handlers, one module per subject. `api.table` puts their routes together."""
