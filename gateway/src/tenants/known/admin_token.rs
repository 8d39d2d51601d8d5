//! Operators' tokens, checked.

use super::{Digests, Redigest, is_live};
use crate::clock::{Clock, Micros};
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::id::AdminTokenId;
use crate::secrets::Secrets;
use crate::store::{AdminTokenRow, Store};
use crate::tenants::bearer::Bearer;
use crate::tenants::{AdminPrincipal, stored_role, stored_scope};

const PREFIX: &str = "ckadm";

/// What a caller presents: well-formed, nothing more.
#[derive(Debug)]
pub struct PresentedAdminToken(Bearer);

/// An admin token as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAdminToken {
    /// Whose it is.
    pub operator: AdminPrincipal,
    digests: Digests,
    expires_at: Option<Micros>,
}

impl PresentedAdminToken {
    /// Whether this is meant as one, well-formed or not.
    pub fn is_meant(text: &str) -> bool {
        text.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('_'))
    }

    /// # Errors
    /// `Unauthenticated(BadKey)`
    pub fn parse(text: &str) -> Result<PresentedAdminToken> {
        Bearer::parse(PREFIX, text).map(PresentedAdminToken).ok_or_else(bad_token)
    }

    /// Its public id.
    pub fn id(&self) -> AdminTokenId {
        AdminTokenId::of(&self.0.id)
    }

    /// Compares it with what is known under its id.
    ///
    /// # Errors
    /// `Unauthenticated(BadKey)`, one and the same for one that is unknown, has another secret, or has expired. Unknown
    /// takes as long as wrong.
    pub fn verify<'k>(
        &self,
        secrets: &Secrets,
        now: Micros,
        known: Option<&'k KnownAdminToken>,
    ) -> Result<&'k AdminPrincipal> {
        let Some(known) = known else {
            self.0.matches(secrets, None);
            return Err(bad_token());
        };
        let fits = known.digests.fit(secrets, now, &self.0);
        if fits && known.is_live(now) { Ok(&known.operator) } else { Err(bad_token()) }
    }

    /// What to store in the place of the digest, when a newer pepper is there.
    pub fn redigest(&self, secrets: &Secrets, known: &KnownAdminToken) -> Option<Redigest> {
        known.digests.redigest(secrets, &self.0)
    }
}

impl KnownAdminToken {
    /// # Errors
    /// `Internal` for what only a mistake can have stored.
    pub fn read(id: &AdminTokenId, row: AdminTokenRow) -> Result<KnownAdminToken> {
        let digests = Digests { current: (row.digest, row.pepper_version), former: row.former };
        let (role, scope) = (stored_role(&row.role)?, stored_scope(&row.scope)?);
        let operator = AdminPrincipal { token: id.clone(), role, scope };
        Ok(KnownAdminToken { operator, digests, expires_at: row.expires_at })
    }

    /// Whether it has not expired.
    pub fn is_live(&self, now: Micros) -> bool {
        is_live(self.expires_at, now)
    }
}

/// Which operator presents `presented`, by a look-up of its own: for what runs outside of a gateway.
///
/// # Errors
/// `Unauthenticated(BadKey)`, one and the same for a token that is malformed, unknown, revoked or expired; those of the
/// store.
pub async fn authenticate_admin_token(
    store: &Store,
    secrets: &Secrets,
    clock: &Clock,
    presented: &str,
) -> Result<AdminPrincipal> {
    operator(store, secrets, clock.now(), presented).await
}

/// As [`authenticate_admin_token`], at `now`.
pub(in crate::tenants) async fn operator(
    store: &Store,
    secrets: &Secrets,
    now: Micros,
    presented: &str,
) -> Result<AdminPrincipal> {
    let presented = PresentedAdminToken::parse(presented)?;
    let id = presented.id();
    let known = store.usable_admin_token(&id, now).await?.map(|row| KnownAdminToken::read(&id, row)).transpose()?;
    presented.verify(secrets, now, known.as_ref()).cloned()
}

fn bad_token() -> Error {
    Error::new(ErrorKind::Unauthenticated(AuthFailure::BadKey), "The admin token is not valid.")
}
