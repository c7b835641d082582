//! Access logs: templates, and lines written off the request path.
