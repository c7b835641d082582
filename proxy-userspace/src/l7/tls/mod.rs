//! TLS towards clients and endpoints: certificates by SNI, tickets, client certificates.
