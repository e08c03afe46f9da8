//! What expressions of a template can speak of, and how much of it they may.

use std::cell::Cell;

use serde_json::Value;

use super::expression::{ExpressionError, refused};
use super::names::Names;
use crate::nesting;

/// How much all values together may be, in bytes or items. A template that doubles something again and again is small, and
/// what it means is not.
const BUDGET: usize = 8 * 1024 * 1024;

/// How deep evaluations may be within one another: of values, of calls, and of variables that are made of variables, all
/// together. Each takes some of the thread's stack.
const DEPTH: usize = 128;

/// What expressions can speak of.
pub(super) struct Scope<'a> {
    /// The parameters.
    pub(super) parameters: Names<'a>,
    /// The variables.
    pub(super) variables: Names<'a>,
    /// What the surroundings are called.
    pub(super) surroundings: &'a Surroundings,
    /// The resources of the template, as they came to be.
    pub(super) resources: Resources<'a>,
    /// What may still be made of values.
    budget: Cell<usize>,
    /// How many evaluations are under way, one within the other.
    depth: Cell<usize>,
}

/// The resources that expressions can refer to.
#[derive(Clone, Copy)]
pub(super) enum Resources<'a> {
    /// None: the resources themselves are being described.
    None,
    /// Those with these paths, once they are there.
    Later(&'a [String]),
    /// These: bodies by path.
    There(&'a [(String, Value)]),
}

/// Where a template is deployed.
pub(super) struct Surroundings {
    /// The subscription's id.
    pub(super) subscription: String,
    /// What `subscription()` gives.
    pub(super) subscription_object: Value,
    /// The group's name.
    pub(super) group: String,
    /// What `resourceGroup()` gives.
    pub(super) group_object: Value,
    /// What `deployment()` gives.
    pub(super) deployment_object: Value,
}

impl<'a> Scope<'a> {
    /// The scope of what begins now.
    pub(super) fn new(
        parameters: Names<'a>,
        variables: Names<'a>,
        surroundings: &'a Surroundings,
        resources: Resources<'a>,
    ) -> Self {
        Self {
            parameters,
            variables,
            surroundings,
            resources,
            budget: Cell::new(BUDGET),
            depth: Cell::new(0),
        }
    }

    /// Evaluates something, within what is being evaluated.
    ///
    /// # Errors
    /// Those of the evaluation, or that it is too deep for one.
    pub(super) fn deeper(
        &self,
        evaluate: impl FnOnce() -> Result<Value, ExpressionError>,
    ) -> Result<Value, ExpressionError> {
        let depth = self.depth.get();
        if depth >= DEPTH {
            return Err(refused(format!(
                "values, calls and variables are within one another deeper than {DEPTH}"
            )));
        }
        self.depth.set(depth + 1);
        let value = evaluate();
        self.depth.set(depth);
        value
    }

    /// Takes a value that was made, if there may still be so much of them.
    ///
    /// # Errors
    /// If there may not, or it is nested too deep.
    pub(super) fn spend(&self, value: Value) -> Result<Value, ExpressionError> {
        if nesting::is_too_deep(&value) {
            return Err(refused(nesting::told("what it makes")));
        }
        match self.budget.get().checked_sub(size(&value)) {
            Some(left) => {
                self.budget.set(left);
                Ok(value)
            }
            None => Err(refused(format!(
                "the values of the template are larger than {BUDGET} bytes together"
            ))),
        }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 1,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| name.len() + size(value);
            members.iter().map(member).sum::<usize>() + 1
        }
        _ => 1,
    }
}
