//! Limits at three levels, and which of them wins.

use crate::error::Limit;
use serde::{Deserialize, Serialize};

/// Most that one scope may use; `None` is no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requests_per_minute": 600, "tokens_per_minute": 100_000, "concurrent_requests": null}))]
pub struct Limits {
    /// Requests in any 60 seconds.
    #[schema(maximum = 9007199254740992_i64)]
    pub requests_per_minute: Option<u64>,
    /// Tokens, prompt and answer together, in any 60 seconds.
    #[schema(maximum = 9007199254740992_i64)]
    pub tokens_per_minute: Option<u64>,
    /// Requests at the same time.
    #[schema(maximum = 9007199254740992_i64)]
    pub concurrent_requests: Option<u64>,
}

/// A level that has limits, and counts what they are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of a tenant's projects.
    Tenant,
    /// All of a project's keys.
    Project,
    /// One credential.
    Key,
}

/// The limits that one key's requests must fit: its own, its project's and its tenant's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// For all of the tenant's projects together.
    pub tenant: Limits,
    /// For all of the project's keys together.
    pub project: Limits,
    /// For the key alone.
    pub key: Limits,
}

/// What [`effective`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Decision,
    /// Tokens in any 60 seconds.
    pub tokens_per_minute: Decision,
    /// Requests at the same time.
    pub concurrent_requests: Decision,
}

/// Which level's limit wins, and over which others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The tightest, and whose it is; `None` when no level has one.
    pub winner: Option<(Scope, u64)>,
    /// Every level's, widest scope first; `None` where it has none of its own.
    pub considered: [(Scope, Option<u64>); 3],
}

impl Limits {
    pub(super) fn get(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::RequestsPerMinute => self.requests_per_minute,
            Limit::TokensPerMinute => self.tokens_per_minute,
            Limit::Concurrency => self.concurrent_requests,
        }
    }
}

impl Scope {
    /// Widest first.
    pub const ALL: [Scope; 3] = [Scope::Tenant, Scope::Project, Scope::Key];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Tenant => "tenant",
            Scope::Project => "project",
            Scope::Key => "key",
        }
    }
}

impl Hierarchy {
    /// Of a tenant whose project and key have no limits of their own.
    pub fn of_tenant(tenant: Limits) -> Hierarchy {
        Hierarchy { tenant, ..Hierarchy::default() }
    }

    /// One level's.
    pub fn at(&self, scope: Scope) -> &Limits {
        match scope {
            Scope::Tenant => &self.tenant,
            Scope::Project => &self.project,
            Scope::Key => &self.key,
        }
    }
}

/// Which limit wins, and why: every level counts what happens below it, and a request must fit at every level. So the
/// tightest limit wins, and a lower level can narrow a higher one but never widen it. A level without a limit of its own
/// adds none and lifts none.
///
/// This compares the limits as they are set, for one key that has them to itself. A wider limit is shared, so it may
/// refuse earlier than the winner: what is left of each is in [`Standing`](super::Standing) and
/// [`Usage`](super::Usage).
pub fn effective(hierarchy: &Hierarchy) -> Effective {
    let decide = |limit| {
        let considered = Scope::ALL.map(|scope| (scope, hierarchy.at(scope).get(limit)));
        // Of equals the narrowest. Raising a wider limit would not help while the narrower one stands, and who asks
        // about a key may more often change the key than its tenant.
        let narrowest_first = considered.into_iter().rev().filter_map(|(scope, limit)| Some((scope, limit?)));
        Decision { winner: narrowest_first.min_by_key(|&(_, limit)| limit), considered }
    };
    Effective {
        requests_per_minute: decide(Limit::RequestsPerMinute),
        tokens_per_minute: decide(Limit::TokensPerMinute),
        concurrent_requests: decide(Limit::Concurrency),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests(limit: Option<u64>) -> Limits {
        Limits { requests_per_minute: limit, ..Limits::default() }
    }

    fn hierarchy(tenant: Option<u64>, project: Option<u64>, key: Option<u64>) -> Hierarchy {
        Hierarchy { tenant: requests(tenant), project: requests(project), key: requests(key) }
    }

    fn winner(hierarchy: Hierarchy) -> Option<(Scope, u64)> {
        effective(&hierarchy).requests_per_minute.winner
    }

    #[test]
    fn the_tightest_level_wins_wherever_it_is() {
        assert_eq!(winner(hierarchy(Some(1), Some(2), Some(3))), Some((Scope::Tenant, 1)));
        assert_eq!(winner(hierarchy(Some(3), Some(1), Some(2))), Some((Scope::Project, 1)));
        assert_eq!(winner(hierarchy(Some(3), None, Some(0))), Some((Scope::Key, 0)));
    }

    #[test]
    fn of_equal_limits_the_narrowest_scope_is_named() {
        assert_eq!(winner(hierarchy(Some(5), Some(5), Some(5))), Some((Scope::Key, 5)));
        assert_eq!(winner(hierarchy(Some(5), Some(5), None)), Some((Scope::Project, 5)));
        assert_eq!(winner(hierarchy(Some(5), Some(5), Some(6))), Some((Scope::Project, 5)));
    }

    #[test]
    fn every_limit_is_decided_for_itself_and_shows_all_that_was_considered() {
        let hierarchy = Hierarchy {
            tenant: Limits { requests_per_minute: Some(60), tokens_per_minute: Some(9_000), concurrent_requests: None },
            project: Limits { requests_per_minute: Some(90), ..Limits::default() },
            key: Limits { tokens_per_minute: Some(100), ..Limits::default() },
        };
        let Effective { requests_per_minute, tokens_per_minute, concurrent_requests } = effective(&hierarchy);
        let considered = |tenant, project, key| [(Scope::Tenant, tenant), (Scope::Project, project), (Scope::Key, key)];
        let decision = |winner, considered| Decision { winner, considered };
        let requests = decision(Some((Scope::Tenant, 60)), considered(Some(60), Some(90), None));
        assert_eq!(requests_per_minute, requests, "a project's wider limit widens nothing");
        assert_eq!(tokens_per_minute, decision(Some((Scope::Key, 100)), considered(Some(9_000), None, Some(100))));
        assert_eq!(concurrent_requests, decision(None, considered(None, None, None)));
    }

    proptest! {
        #[test]
        fn what_is_set_at_one_level_never_widens_what_another_leaves(
            levels in prop::array::uniform3(prop::option::of(0u64..5)),
            which in 0usize..3,
        ) {
            let all = |[tenant, project, key]: [Option<u64>; 3]| {
                winner(hierarchy(tenant, project, key)).map_or(u64::MAX, |(_, limit)| limit)
            };
            let mut without = levels;
            without[which] = None;
            prop_assert!(all(levels) <= all(without));
            prop_assert_eq!(all(levels), all(without).min(levels[which].unwrap_or(u64::MAX)));
        }
    }
}
