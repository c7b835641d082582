//! Where endpoints come from beside the config: DNS names, resolved and refreshed.
