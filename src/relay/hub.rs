//! Who gets what (pure).
