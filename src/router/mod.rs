//! The sticky router.
