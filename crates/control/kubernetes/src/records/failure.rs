//! What it means for a record that the API server did not do as it was asked.

use kube::core::Status;
use pool::StoreError;

/// What the API server says when one of its admission webhooks, or a policy, is against a write.
const DENIED: [&str; 2] = ["denied the request", "denied request"];

/// The API server did not give or take it, for reasons that may pass.
pub(super) fn unavailable(kind: &str, name: &str, error: &kube::Error) -> StoreError {
    let what = if name.is_empty() {
        format!("the list of {kind}")
    } else {
        format!("{kind} {name}")
    };
    match error {
        kube::Error::Api(status) if status.code == 404 && name.is_empty() => {
            StoreError::Unavailable(format!(
                "the cluster knows no {kind} of migpool.dev/v1alpha1: install migpool's chart with arm.enabled=true"
            ))
        }
        error => StoreError::Unavailable(format!(
            "the API server does not give or take {what}: {}",
            crate::client::causes(error)
        )),
    }
}

/// The API server did not write it: it is against it, or else as [`unavailable`] says.
pub(super) fn not_written(kind: &str, name: &str, error: &kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) if is_refusal(status) => StoreError::Refused(format!(
            "The Kubernetes API server refuses {kind} {name}: {}",
            status.message
        )),
        error => unavailable(kind, name, error),
    }
}

/// Whether somebody else was faster.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    is_taken(error)
        || matches!(error, kube::Error::Api(status) if status.code == 404 && !is_denial(status))
}

/// Whether there is something of that name, or of a newer version.
pub(super) fn is_taken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && !is_denial(status))
}

/// Whether what was to be written is refused, and would be again: by the schema, a webhook or a policy. Who lacks the right to
/// write it at all is not: that is nothing whoever asked could help.
fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400 | 413 | 422) || is_denial(status)
}

/// Whether a webhook or a policy has refused. They may choose the code; without one it is 403 and 422.
fn is_denial(status: &Status) -> bool {
    (400..500).contains(&status.code)
        && status.code != 429
        && DENIED.iter().any(|words| status.message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        }))
    }

    #[test]
    fn what_the_schema_a_webhook_or_a_policy_is_against_is_refused_with_their_words() {
        for (code, message) in [
            (
                422,
                "NodePool.migpool.dev \"a\" is invalid: spec.count: Invalid value: -1",
            ),
            (400, "NodePool in version \"v1alpha1\" cannot be handled"),
            (413, "Request entity too large: limit is 3145728"),
            (
                403,
                "admission webhook \"w.example.com\" denied the request: not on Fridays",
            ),
            (
                409,
                "admission webhook \"w.example.com\" denied the request: not on Fridays",
            ),
            (
                422,
                "nodepools.migpool.dev \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            ),
        ] {
            let error = answered(code, message);
            assert!(!is_conflict(&error), "{code}");
            let StoreError::Refused(said) = not_written("NodePool", "a", &error) else {
                panic!("{code} {message} is not refused");
            };
            assert!(said.contains(message), "{said}");
        }
    }

    #[test]
    fn what_may_pass_and_what_nobody_who_asks_can_help_is_not_refused() {
        for (code, message) in [
            (500, "etcdserver: request timed out"),
            (
                500,
                "failed calling webhook \"w.example.com\": failed to call webhook",
            ),
            (503, "the server is currently unable to handle the request"),
            (
                429,
                "the server has received too many requests and has asked us to try again later",
            ),
            (401, "Unauthorized"),
            (
                403,
                "nodepools.migpool.dev is forbidden: User \"u\" cannot create resource \"nodepools\"",
            ),
        ] {
            let error = not_written("NodePool", "a", &answered(code, message));
            assert!(
                matches!(error, StoreError::Unavailable(_)),
                "{code} {message}: {error:?}"
            );
        }
        let lost = kube::Error::Service("connection reset by peer".into());
        let error = not_written("NodePool", "a", &lost);
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }

    #[test]
    fn who_was_faster_is_no_refusal() {
        assert!(is_conflict(&answered(
            409,
            "the object has been modified; please apply your changes"
        )));
        assert!(is_conflict(&answered(
            404,
            "nodepools.migpool.dev \"a\" not found"
        )));
    }
}
