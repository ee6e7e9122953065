//! What systemd will read (pure).
