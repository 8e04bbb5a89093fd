//! Realtime notifications for an existing website.
