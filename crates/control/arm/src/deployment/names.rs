//! Parameters and variables: values by names, each made when it is first asked for, for it may be made of others.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::expression::{ExpressionError, evaluate_value, refused};
use super::scope::Scope;
use crate::nesting;

/// How many may be made of one another.
const DEPTH: usize = 32;

/// Values by names, which compare without case.
pub(super) struct Names<'a> {
    what: &'static str,
    /// As they were written.
    written: Option<&'a Map<String, Value>>,
    /// Those that are made.
    values: RefCell<Map<String, Value>>,
    /// Those that are being made.
    under_way: RefCell<Vec<String>>,
}

impl<'a> Names<'a> {
    /// Those that were written, and of these some with their values.
    pub(super) fn new(
        what: &'static str,
        written: Option<&'a Map<String, Value>>,
        values: Map<String, Value>,
    ) -> Self {
        Self {
            what,
            written,
            values: RefCell::new(values),
            under_way: RefCell::default(),
        }
    }

    /// The value of one.
    ///
    /// # Errors
    /// If there is none of this name, or it can't be made.
    pub(super) fn get(&self, name: &str, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
        let is = |(key, _): &(&String, &Value)| key.eq_ignore_ascii_case(name);
        if let Some((_, value)) = self.values.borrow().iter().find(is) {
            return Ok(value.clone());
        }
        let what = self.what;
        let written = self.written.and_then(|written| written.iter().find(is));
        let (name, written) = written
            .ok_or_else(|| refused(format!("there is no {what} '{name}' in the template")))?;
        if self.under_way.borrow().contains(name) {
            return Err(refused(format!("the {what} '{name}' is made of itself")));
        }
        if self.under_way.borrow().len() >= DEPTH {
            return Err(refused(format!(
                "more than {DEPTH} of the template's {what}s are made of one another"
            )));
        }
        self.under_way.borrow_mut().push(name.clone());
        let made = evaluate_value(written, scope);
        self.under_way.borrow_mut().pop();
        let made = made?;
        if nesting::is_too_deep(&made) {
            return Err(refused(nesting::told(&format!("the {what} '{name}'"))));
        }
        self.values.borrow_mut().insert(name.clone(), made.clone());
        Ok(made)
    }

    /// The values of all.
    ///
    /// # Errors
    /// If one can't be made.
    pub(super) fn all(&self, scope: &Scope<'_>) -> Result<Map<String, Value>, ExpressionError> {
        for name in self.written.iter().flat_map(|written| written.keys()) {
            self.get(name, scope).map_err(|error| match error {
                ExpressionError::Refused(reason) => {
                    refused(format!("the {} '{name}': {reason}", self.what))
                }
                later @ ExpressionError::Later => later,
            })?;
        }
        Ok(self.values.borrow().clone())
    }
}
