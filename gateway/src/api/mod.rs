//! The dialects. None knows another; each translates to and from `inference`.
