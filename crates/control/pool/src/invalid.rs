//! What was wrong with a request, in ARM's terms.

/// Why something that was asked for can't be had, as Azure Resource Manager would say it.
///
/// `code` is one of ARM's (`InvalidParameter`, `PropertyChangeNotAllowed`, ...), `target` the property's path, and `message`
/// says what was wrong and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// ARM's error code.
    pub code: &'static str,
    /// The property that the message is about.
    pub target: Option<String>,
    /// A sentence for the person who asked.
    pub message: String,
}

impl Invalid {
    /// An error with ARM's `code` about the property `target`.
    #[must_use]
    pub fn new(code: &'static str, target: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            code,
            target: target.map(str::to_owned),
            message: message.into(),
        }
    }

    /// An `InvalidParameter` about the property `target`.
    #[must_use]
    pub fn parameter(target: &str, message: impl Into<String>) -> Self {
        Self::new("InvalidParameter", Some(target), message)
    }

    /// A `PropertyChangeNotAllowed` about the property `target`, with AKS's words and then `next`.
    #[must_use]
    pub fn immutable(target: &str, next: &str) -> Self {
        let message = format!("Changing property '{target}' is not allowed. {next}");
        Self::new("PropertyChangeNotAllowed", Some(target), message)
    }
}
