use super::*;
use crate::catalog::ModelAccess;
use crate::id::{ProjectId, ServiceAccountId, TenantId};
use crate::quota::Limits;
use crate::store::{AccessKeyRow, ApiKeyRow, LimitColumns, UsableServiceAccountRow};
use crate::tenants::{Operation, Permission, Scope};
use std::collections::BTreeSet;

fn secrets() -> (Secrets, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Secrets::load_or_create_with(dir.path(), |_| None).unwrap(), dir)
}

/// An owner as the store gives it, from JSON of its own, so that only what a test is about is spelled out.
fn owner(role: &str, scope: &str) -> Owner {
    Owner {
        tenant_id: TenantId::new(),
        project_id: ProjectId::new(),
        role: role.into(),
        scope: scope.into(),
        expires_at: None,
        service_account_id: None,
        account_role: None,
        account_scope: None,
        account_expires_at: None,
        limits: LimitColumns::try_from(Limits::default()).unwrap(),
        project_limits: Default::default(),
        key_limits: Default::default(),
        tenant_model_access: None,
        project_model_access: None,
    }
}

#[test]
fn all_three_levels_bound_the_models() {
    let owner = Owner {
        tenant_model_access: Some(r#"["a*"]"#.into()),
        project_model_access: None,
        ..owner("tenant_developer", r#"{"operations":["inference"],"models":["ab*"]}"#)
    };
    let access = Identity::read(KeyId::new(), owner.clone()).unwrap().principal.access;
    let patterns = |access: &ModelAccess| access.patterns().map(|list| list.iter().map(ToString::to_string).collect());
    assert_eq!(patterns(&access.tenant), Some(vec!["a*".to_owned()]));
    assert_eq!(patterns(&access.project), None);
    assert_eq!(patterns(&access.key), Some(vec!["ab*".to_owned()]));
    let broken = Owner { project_model_access: Some("[1]".into()), ..owner.clone() };
    assert!(Identity::read(KeyId::new(), broken).is_err());
    let unmatchable = r#"{"operations":["inference"],"models":["ab*","no/model"]}"#;
    assert!(Identity::read(KeyId::new(), Owner { scope: unmatchable.into(), ..owner }).is_err());
}

const ALL: &str = r#"{"operations":["inference","control_plane","read_usage","administer"]}"#;

fn of_account(role: &str, scope: &str) -> Owner {
    Owner {
        service_account_id: Some(ServiceAccountId::new()),
        account_role: Some(role.into()),
        account_scope: Some(scope.into()),
        ..owner("tenant_owner", ALL)
    }
}

#[test]
fn a_service_accounts_key_may_do_only_what_both_may() {
    let narrow = r#"{"operations":["inference"],"models":["a*"]}"#;
    let identity = Identity::read(KeyId::new(), of_account("tenant_developer", narrow)).unwrap();
    let Principal { role, scope, .. } = &identity.principal;
    assert_eq!(*role, Role::TenantDeveloper);
    let only = BTreeSet::from([Operation::Inference]);
    assert_eq!(**scope, Scope { operations: only, models: Some(vec!["a*".into()]), ..Scope::default() });
    assert!(identity.principal.check(Permission::Infer).is_ok());
    for permission in [Permission::ReadUsage, Permission::WriteCredentials, Permission::ReadModels] {
        assert!(identity.principal.check(permission).is_err(), "{permission:?}");
    }
}

#[test]
fn what_only_a_mistake_can_have_stored_is_refused() {
    let bad = [
        owner("root", ALL),
        owner("platform_admin", ALL),
        owner("tenant_owner", r#"{"operations":["everything"]}"#),
        of_account("platform_admin", ALL),
        of_account("tenant_owner", "{"),
    ];
    for owner in bad {
        assert_eq!(
            Identity::read(KeyId::new(), owner.clone()).unwrap_err().kind,
            crate::error::ErrorKind::Internal,
            "{owner:?}"
        );
    }
}

#[test]
fn a_key_ends_with_whatever_ends_first() {
    let ends = |key, account| {
        let owner = Owner { expires_at: key, account_expires_at: account, ..owner("tenant_owner", ALL) };
        let identity = Identity::read(KeyId::new(), owner).unwrap();
        [9, 10, 19, 20].map(|now| identity.is_live(now))
    };
    assert_eq!(ends(None, None), [true; 4]);
    assert_eq!(ends(Some(20), None), [true, true, true, false]);
    assert_eq!(ends(Some(20), Some(10)), [true, false, false, false]);
    assert_eq!(ends(Some(10), Some(20)), [true, false, false, false]);
}

#[test]
fn the_former_secret_of_a_rotated_key_is_accepted_until_it_ends() {
    let (secrets, _dir) = secrets();
    let former = Bearer::generate("ck");
    // A rotation keeps the id, so of a key of another id only the digest under this one counts.
    let text = |bearer: &Bearer| PresentedApiKey::parse(bearer.text_for_tests()).unwrap();
    let DigestColumns { digest, pepper_version: version } = former.digest(&secrets);
    let row = ApiKeyRow {
        digest: "00".repeat(32),
        pepper_version: version,
        former: FormerDigest {
            previous_digest: Some(digest),
            previous_pepper_version: Some(version),
            previous_expires_at: Some(10),
        },
        owner: owner("tenant_developer", ALL),
    };
    let known = KnownApiKey::read(&text(&former).id(), row.clone()).unwrap();
    assert!(text(&former).verify(&secrets, 9, Some(&known)).is_ok());
    assert!(text(&former).verify(&secrets, 10, Some(&known)).is_err());
    assert!(text(&former).verify(&secrets, 9, None).is_err());
    let without_end = ApiKeyRow { former: FormerDigest { previous_expires_at: None, ..row.former.clone() }, ..row };
    let known = KnownApiKey::read(&text(&former).id(), without_end).unwrap();
    assert!(text(&former).verify(&secrets, 9, Some(&known)).is_err(), "a secret without an end is none");
}

#[test]
fn a_digest_under_the_current_pepper_is_left_alone() {
    let (secrets, _dir) = secrets();
    let bearer = Bearer::generate("ck");
    let presented = PresentedApiKey::parse(bearer.text_for_tests()).unwrap();
    let DigestColumns { digest, pepper_version } = bearer.digest(&secrets);
    let row = ApiKeyRow {
        digest,
        pepper_version,
        former: FormerDigest { previous_digest: None, previous_pepper_version: None, previous_expires_at: None },
        owner: owner("tenant_developer", ALL),
    };
    let known = KnownApiKey::read(&presented.id(), row).unwrap();
    assert_eq!(presented.redigest(&secrets, &known), None);
}

#[test]
fn both_secrets_of_a_rotated_access_key_open_while_both_count() {
    let (secrets, _dir) = secrets();
    let id = "CKIAAAAAAAAAAAAAAAAA";
    let sealed = |text: &str| secrets.seal(&crate::secrets::SecretText::new(text.into()), id).unwrap();
    let row = AccessKeyRow {
        sealed_secret: sealed("new"),
        previous_sealed_secret: Some(sealed("old")),
        previous_expires_at: Some(10),
        owner: Owner { expires_at: Some(20), ..owner("tenant_developer", ALL) },
    };
    let id = AccessKeyId::parse(id).unwrap();
    let known = KnownAccessKey::read(id, row).unwrap();
    let opened = |now| {
        let (secret, former) = known.secrets(&secrets, now).unwrap();
        (secret.expose().to_owned(), former.map(|text| text.expose().to_owned()))
    };
    assert_eq!(opened(9), ("new".to_owned(), Some("old".to_owned())));
    assert_eq!(opened(10), ("new".to_owned(), None));
    assert!(id.identity(19, Some(&known)).is_ok());
    assert!(id.identity(20, Some(&known)).is_err() && id.identity(19, None).is_err());
    assert!(!format!("{known:?}").contains("new\""));
}

#[test]
fn an_account_takes_its_own_issuers_tokens_for_its_own_subject() {
    let id = ServiceAccountId::new();
    let row = |issuer: Option<&str>| UsableServiceAccountRow {
        federated_issuer: issuer.map(str::to_owned),
        federated_subject: issuer.map(|_| "sub".to_owned()),
        owner: Owner { expires_at: Some(10), service_account_id: Some(id.clone()), ..owner("tenant_developer", ALL) },
    };
    let known = KnownServiceAccount::read(&id, row(Some("iss"))).unwrap();
    assert!(known.trusts("iss", "sub", 9));
    assert!(!known.trusts("iss", "sub", 10), "expired");
    assert!(!known.trusts("iss", "other", 9) && !known.trusts("other", "sub", 9) && !known.trusts("", "", 9));
    assert!(!KnownServiceAccount::read(&id, row(None)).unwrap().trusts("", "", 9));
    assert_eq!(known.identity.principal.key.as_str(), id.as_str().replace("sva_", "key_"));
}
