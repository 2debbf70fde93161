"""The description of every route for programs: `GET /openapi.json`, OpenAPI 3.1."""
