//! Chooses an endpoint for a request: a policy over weights, kept per worker.
