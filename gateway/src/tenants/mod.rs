//! Tenants, projects and credentials: rules and life cycle.
