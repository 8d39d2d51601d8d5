//! What answers inference: today the bundled cluster.

/// Every upstream by its name.
#[derive(Debug)]
pub struct Upstreams;
