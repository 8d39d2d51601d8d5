//! Scopes: what a credential is narrowed to, whatever its role.

use super::{Operation, Permission};
use crate::catalog::ModelAccess;
use crate::error::{Error, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::slice::from_ref;
use utoipa::ToSchema;

/// Most entries of each list.
const MAX_ENTRIES: usize = 64;

/// What a credential may be used for. An absent list does not narrow; an empty one lets nothing through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"operations": ["inference", "control_plane"], "models": ["amazon.nova-*"], "dialects": ["openai"], "ip_ranges": ["10.0.0.0/8"]}))]
pub struct Scope {
    /// Kinds of operation.
    pub operations: BTreeSet<Operation>,
    /// Ids of models, or beginnings of them that end in `*`; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Families of paths on the data plane; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialects: Option<BTreeSet<DialectFamily>>,
    /// Addresses that callers come from, as CIDR; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub ip_ranges: Option<Vec<IpNet>>,
}

/// A family of paths of the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DialectFamily {
    /// `/v1`, `/openai/v1`
    Openai,
    /// `/model`, `/foundation-models` and what belongs to them
    Bedrock,
    /// `/v1/messages`, `/anthropic/v1`
    Anthropic,
}

impl DialectFamily {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            DialectFamily::Openai => "openai",
            DialectFamily::Bedrock => "bedrock",
            DialectFamily::Anthropic => "anthropic",
        }
    }
}

impl Default for Scope {
    /// Using models, and nothing else.
    fn default() -> Scope {
        let operations = BTreeSet::from([Operation::Inference, Operation::ControlPlane]);
        Scope { operations, models: None, dialects: None, ip_ranges: None }
    }
}

impl Scope {
    /// All that an operator's token can be used for.
    pub fn operators() -> Scope {
        Scope { operations: BTreeSet::from([Operation::ReadUsage, Operation::Administer]), ..Scope::default() }
    }

    /// Within its bounds.
    ///
    /// # Errors
    /// `Invalid`, naming the field below `scope`.
    pub fn check(&self) -> Result<()> {
        if self.models.as_ref().is_some_and(|models| models.len() > MAX_ENTRIES) {
            return Err(Error::invalid("scope.models", format!("At most {MAX_ENTRIES} models can be named.")));
        }
        ModelAccess::of_texts(self.models.as_deref())
            .map_err(|error| Error::invalid("scope.models", format!("`scope.models`: {error}.")))?;
        if self.ip_ranges.as_ref().is_some_and(|ranges| ranges.len() > MAX_ENTRIES) {
            return Err(Error::invalid("scope.ip_ranges", format!("At most {MAX_ENTRIES} ranges can be named.")));
        }
        let mapped = self.ip_ranges.iter().flatten().find(|range| is_mapped(range));
        match mapped {
            // Callers' addresses are compared in their own form, so it would never match.
            Some(range) => {
                Err(Error::invalid("scope.ip_ranges", format!("Write {range} as the IPv4 range that it is.")))
            }
            None => Ok(()),
        }
    }

    /// Whether `permission` gets through.
    pub fn lets(&self, permission: Permission) -> bool {
        self.operations.contains(&permission.operation())
    }

    /// Whether a caller from `address` gets through; an unknown one only where no range is named.
    pub fn lets_from(&self, address: Option<IpAddr>) -> bool {
        let Some(ranges) = &self.ip_ranges else { return true };
        // `::ffff:10.0.0.1` is 10.0.0.1, on sockets that take both.
        let address = address.map(|address| address.to_canonical());
        address.is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
    }

    /// Whether a call in `family`'s words gets through.
    pub fn lets_speak(&self, family: DialectFamily) -> bool {
        self.dialects.as_ref().is_none_or(|dialects| dialects.contains(&family))
    }

    /// The first field, below `scope`, in which it reaches further than `issuer`: a child must stay within it.
    pub fn exceeds(&self, issuer: &Scope) -> Option<&'static str> {
        if !self.operations.is_subset(&issuer.operations) {
            return Some("scope.operations");
        }
        if !covers(issuer.models.as_deref(), self.models.as_deref()) {
            return Some("scope.models");
        }
        if !narrower(&self.dialects, &issuer.dialects, BTreeSet::is_subset) {
            return Some("scope.dialects");
        }
        let ranges = |own: &Vec<IpNet>, theirs: &Vec<IpNet>| {
            own.iter().all(|range| theirs.iter().any(|outer| outer.contains(range)))
        };
        if !narrower(&self.ip_ranges, &issuer.ip_ranges, ranges) {
            return Some("scope.ip_ranges");
        }
        None
    }
}

/// Whether it lies within `::ffff:0:0/96`, which are IPv4's addresses in IPv6's form.
fn is_mapped(range: &IpNet) -> bool {
    match range {
        IpNet::V4(_) => false,
        IpNet::V6(range) => range.prefix_len() >= 96 && range.network().to_ipv4_mapped().is_some(),
    }
}

impl Scope {
    /// What gets through both: a service account's key reaches no further than the account.
    pub fn meet(&self, other: &Scope) -> Scope {
        Scope {
            operations: self.operations.intersection(&other.operations).copied().collect(),
            models: both(&self.models, &other.models, |one, other| {
                common(one, other, |inner, outer| covers(Some(from_ref(outer)), Some(from_ref(inner))))
            }),
            dialects: both(&self.dialects, &other.dialects, |one, other| one.intersection(other).copied().collect()),
            ip_ranges: both(&self.ip_ranges, &other.ip_ranges, |one, other| {
                common(one, other, |inner, outer| outer.contains(inner))
            }),
        }
    }
}

/// One of two lists that narrow, or what they have in common; an absent one is everything.
fn both<T: Clone>(one: &Option<T>, other: &Option<T>, common: impl Fn(&T, &T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(common(one, other)),
        (Some(list), None) | (None, Some(list)) => Some(list.clone()),
        (None, None) => None,
    }
}

/// What two lists of patterns or ranges have in common. Of two entries one lies within the other or they have nothing in
/// common, so that is: each entry that lies within one of the other list.
fn common<T: Clone + PartialEq>(one: &[T], other: &[T], within: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let of = |inner: &[T], outer: &[T]| -> Vec<T> {
        inner.iter().filter(|entry| outer.iter().any(|wide| within(entry, wide))).cloned().collect()
    };
    let mut found = of(one, other);
    let more: Vec<T> = of(other, one).into_iter().filter(|entry| !found.contains(entry)).collect();
    found.extend(more);
    found
}

/// Whether one list that narrows lies within another; an absent one is everything.
fn narrower<T>(own: &Option<T>, theirs: &Option<T>, within: impl Fn(&T, &T) -> bool) -> bool {
    match (own, theirs) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(own), Some(theirs)) => within(own, theirs),
    }
}

/// Whether one list of models allows all that another does. What can't be read reaches no further than nothing, and
/// lies within nothing.
fn covers(theirs: Option<&[String]>, own: Option<&[String]>) -> bool {
    match (ModelAccess::of_texts(theirs), ModelAccess::of_texts(own)) {
        (Ok(theirs), Ok(own)) => theirs.covers(&own),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(json: serde_json::Value) -> Scope {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_scope_is_stored_and_read_as_it_is() {
        let text = r#"{"operations":["inference","administer"],"models":["a*"],"dialects":["bedrock"],"ip_ranges":["10.0.0.0/8","::1/128"]}"#;
        let read: Scope = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Scope>(r#"{"operations":[],"tenant":"x"}"#).is_err());
        assert_eq!(scope(serde_json::json!({"operations": ["inference", "control_plane"]})), Scope::default());
    }

    #[test]
    fn a_range_in_a_form_that_no_address_has_is_refused() {
        let check = |range: &str| scope(serde_json::json!({"operations": [], "ip_ranges": [range]})).check();
        for range in ["::ffff:10.0.0.0/104", "::ffff:0:0/96", "::ffff:10.0.0.1/128"] {
            assert_eq!(check(range).unwrap_err().param.as_deref(), Some("scope.ip_ranges"), "{range}");
        }
        for range in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "::1/128", "2001:db8::/32", "::fffe:0:0/96"] {
            assert!(check(range).is_ok(), "{range}");
        }
    }

    #[test]
    fn an_address_must_lie_in_a_range_when_there_are_any() {
        let narrowed = scope(serde_json::json!({"operations": [], "ip_ranges": ["10.0.0.0/8"]}));
        let at = |text: &str| Some(text.parse().unwrap());
        assert!(narrowed.lets_from(at("10.9.9.9")) && narrowed.lets_from(at("::ffff:10.9.9.9")));
        assert!(!narrowed.lets_from(at("11.0.0.1")) && !narrowed.lets_from(at("::1")) && !narrowed.lets_from(None));
        assert!(Scope::default().lets_from(None));
    }

    #[test]
    fn a_child_that_reaches_further_is_told_where() {
        let issuer = scope(serde_json::json!({
            "operations": ["inference", "administer"], "models": ["amazon.*", "x"], "dialects": ["openai"],
            "ip_ranges": ["10.0.0.0/8"],
        }));
        let with = |field: &str, value: serde_json::Value| {
            let mut json = serde_json::to_value(&issuer).unwrap();
            json[field] = value;
            scope(json).exceeds(&issuer)
        };
        assert_eq!(issuer.exceeds(&issuer), None);
        assert_eq!(with("operations", serde_json::json!(["read_usage"])), Some("scope.operations"));
        assert_eq!(with("operations", serde_json::json!(["inference"])), None);
        assert_eq!(with("models", serde_json::json!(["amazon.nova-*", "x"])), None);
        for wider in
            [serde_json::json!(["ama*"]), serde_json::json!(["x*"]), serde_json::json!(["*"]), serde_json::Value::Null]
        {
            assert_eq!(with("models", wider), Some("scope.models"));
        }
        assert_eq!(with("models", serde_json::json!(["a b"])), Some("scope.models"), "what can't be read");
        let everything = Scope { models: Some(vec!["*".into()]), ..Scope::default() };
        assert_eq!(Scope::default().exceeds(&everything), None, "no list, and all in a list, are the same");
        let unreadable = Scope { models: Some(vec!["a b".into()]), ..Scope::default() };
        assert_eq!(Scope::default().exceeds(&unreadable), Some("scope.models"));
        assert_eq!(with("dialects", serde_json::json!(["bedrock"])), Some("scope.dialects"));
        assert_eq!(with("ip_ranges", serde_json::json!(["10.1.0.0/16"])), None);
        assert_eq!(with("ip_ranges", serde_json::json!(["0.0.0.0/0"])), Some("scope.ip_ranges"));
    }

    #[test]
    fn two_scopes_meet_in_what_gets_through_both() {
        use serde_json::json;
        let one = scope(json!({
            "operations": ["inference", "administer"], "models": ["amazon.*", "x", "y*"], "dialects": ["openai", "bedrock"],
            "ip_ranges": ["10.0.0.0/8", "192.168.1.0/24", "::1/128"],
        }));
        let other = scope(json!({
            "operations": ["inference", "read_usage"], "models": ["amazon.nova-*", "x", "yz", "z"], "dialects": ["bedrock"],
            "ip_ranges": ["10.1.0.0/16", "192.168.0.0/16"],
        }));
        let both = scope(json!({
            "operations": ["inference"], "models": ["x", "amazon.nova-*", "yz"], "dialects": ["bedrock"],
            "ip_ranges": ["192.168.1.0/24", "10.1.0.0/16"],
        }));
        assert_eq!(one.meet(&other), both);
        for outer in [&one, &other] {
            assert_eq!(both.exceeds(outer), None);
            assert_eq!(outer.meet(outer), *outer);
            assert_eq!(outer.meet(&both).exceeds(&both), None);
        }
        let open = Scope { operations: one.operations.clone(), ..Scope::default() };
        assert_eq!(one.meet(&open), one, "an absent list does not narrow");
        let nothing = Scope { models: Some(vec![]), ..open.clone() };
        assert_eq!(one.meet(&nothing).models, Some(vec![]), "an empty one lets nothing through");
    }

    #[test]
    fn what_can_be_no_model_is_refused() {
        for bad in ["", "a b", "a*b", "a/b", "us.amazon.nova-*", &"x".repeat(129)] {
            let scope = Scope { models: Some(vec![bad.to_owned()]), ..Scope::default() };
            assert_eq!(scope.check().unwrap_err().param.as_deref(), Some("scope.models"), "{bad}");
        }
        let many = Scope { models: Some(vec!["x".into(); 65]), ..Scope::default() };
        assert!(many.check().is_err());
        assert!(Scope { models: Some(vec!["*".into()]), ..Scope::default() }.check().is_ok());
    }
}
