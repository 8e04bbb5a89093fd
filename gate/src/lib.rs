//! Ends TLS from one concatenated PEM file and forwards bytes to a plain server.
