//! The request path: the only composer.
