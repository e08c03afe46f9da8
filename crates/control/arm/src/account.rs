//! Whose resources these are: the subscription, and the tenant that it belongs to.

use percent_encoding::percent_decode_str;
use uuid::Uuid;

use pool::{Scope, SubscriptionId};

use crate::error::ArmError;

/// The one subscription that a front has, and its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The tenant's id.
    pub tenant: Uuid,
    /// The tenant's name, for people.
    pub tenant_name: String,
    /// The subscription's id.
    pub subscription: Uuid,
    /// The subscription's name, for people.
    pub subscription_name: String,
}

impl Account {
    /// The account of a machine that has no other: all zeros.
    #[must_use]
    pub fn local() -> Self {
        Self {
            tenant: Uuid::nil(),
            tenant_name: "migpool".to_owned(),
            subscription: Uuid::nil(),
            subscription_name: "migpool".to_owned(),
        }
    }

    /// All that is in its subscription.
    pub(crate) fn scope(&self) -> Scope {
        Scope::subscription(&self.subscription.into())
    }

    /// Whether a subscription is the account's.
    pub(crate) fn has(&self, subscription: &SubscriptionId) -> bool {
        Uuid::try_parse(subscription.as_str()).is_ok_and(|id| id == self.subscription)
    }

    /// Refuses everything under a subscription that is not the account's. What is no subscription at all is left to the handlers.
    pub(crate) fn check(&self, path: &str) -> Result<(), ArmError> {
        let mut segments = path.split('/').skip(1);
        let subscription = match (segments.next(), segments.next()) {
            (Some("subscriptions"), Some(id)) => percent_decode_str(id).decode_utf8().ok(),
            _ => None,
        };
        match subscription.and_then(|id| id.parse::<SubscriptionId>().ok()) {
            Some(id) if !self.has(&id) => Err(ArmError::subscription_not_found(&id)),
            _ => Ok(()),
        }
    }
}
