//! Runs packets through the real program.
