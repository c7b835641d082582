//! One canonical path for router, access rules and upstream.
