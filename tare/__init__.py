"""The one name that tare has among a user's modules; bench, reports, runners and scenarios are below it."""
