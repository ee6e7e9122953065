//! `appctl run`: children instead of units.
