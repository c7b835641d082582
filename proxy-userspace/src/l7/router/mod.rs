//! Routes compiled for lookup, the plain linear matcher they are held against, and why a route won.
