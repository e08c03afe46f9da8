//! Expressions of the template language: `[format('{0}/{1}', parameters('cluster'), 'gpu')]`.
//!
//! An expression is parsed into a tree, whose calls [`super::function`] carries out. What can't be done is refused with the
//! expression's own text, so that a person finds it in the template.

use serde_json::Value;

use super::function;
use super::scope::Scope;

/// How deep calls may be nested, and how many properties may follow one another.
const DEPTH: usize = 64;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpressionError {
    /// It can't be evaluated; the sentence says why.
    #[error("{0}")]
    Refused(String),
    /// It is about resources that are not there before the end.
    #[error("it needs resources that are not there yet")]
    Later,
}

pub(super) fn refused(reason: impl Into<String>) -> ExpressionError {
    ExpressionError::Refused(reason.into())
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// Text or a number.
    Literal(Value),
    /// A function with its arguments.
    Call(String, Vec<Expression>),
    /// What a chain of properties leads to. They stand side by side: a long chain makes no deep tree.
    Within(Box<Expression>, Vec<Link>),
}

/// A link of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Link {
    /// A property of an object.
    Property(String),
    /// A member of an array or an object.
    Index(Expression),
}

/// The value of a text of a template: itself, unless it is an expression.
///
/// # Errors
/// If the expression can't be evaluated.
pub(super) fn evaluate_text(text: &str, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    let inner = match text.strip_prefix('[') {
        None => return Ok(Value::from(text)),
        Some(escaped) if escaped.starts_with('[') => return Ok(Value::from(escaped)),
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) => inner,
            None => return Ok(Value::from(text)),
        },
    };
    let named = |error| match error {
        ExpressionError::Refused(reason) => refused(format!("the expression '{text}': {reason}")),
        later @ ExpressionError::Later => later,
    };
    let expression = parse(inner).map_err(named)?;
    evaluate(&expression, scope).map_err(named)
}

/// A value of a template, with the values of the expressions in it.
///
/// # Errors
/// If one of them can't be evaluated.
pub(super) fn evaluate_value(value: &Value, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    scope.deeper(|| value_of(value, scope))
}

fn value_of(value: &Value, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    Ok(match value {
        Value::String(text) => evaluate_text(text, scope)?,
        Value::Array(items) => items
            .iter()
            .map(|item| evaluate_value(item, scope))
            .collect::<Result<_, _>>()?,
        Value::Object(object) => {
            if object.contains_key("copy") {
                return Err(refused(
                    "'copy' can't be had here: write each of its items out",
                ));
            }
            let members = object
                .iter()
                .map(|(name, value)| Ok((name.clone(), evaluate_value(value, scope)?)));
            Value::Object(members.collect::<Result<_, ExpressionError>>()?)
        }
        other => other.clone(),
    })
}

/// The value of an expression.
///
/// # Errors
/// If it has none.
pub(super) fn evaluate(
    expression: &Expression,
    scope: &Scope<'_>,
) -> Result<Value, ExpressionError> {
    scope.deeper(|| match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Call(name, arguments) => function::call(name, arguments, scope),
        Expression::Within(of, links) => {
            let whole = evaluate(of, scope)?;
            links
                .iter()
                .try_fold(whole, |value, link| follow(&value, link, scope))
        }
    })
}

fn follow(value: &Value, link: &Link, scope: &Scope<'_>) -> Result<Value, ExpressionError> {
    let index = match link {
        Link::Property(name) => return member(value, name),
        Link::Index(index) => evaluate(index, scope)?,
    };
    match index {
        Value::String(name) => member(value, &name),
        Value::Number(place) => place
            .as_u64()
            .and_then(|place| usize::try_from(place).ok())
            .and_then(|place| value.get(place))
            .cloned()
            .ok_or_else(|| refused(format!("there is no item {place}"))),
        other => Err(refused(format!("{other} is neither a place nor a name"))),
    }
}

/// A member of an object. Names compare without case, as everywhere in templates.
fn member(value: &Value, name: &str) -> Result<Value, ExpressionError> {
    let object = value.as_object().ok_or_else(|| {
        refused(format!(
            "there is no property '{name}' of what is no object"
        ))
    })?;
    let found = object
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.clone());
    found.ok_or_else(|| {
        let there_are: Vec<&str> = object.keys().map(String::as_str).collect();
        refused(format!(
            "there is no property '{name}'; there are '{}'",
            there_are.join("', '")
        ))
    })
}

/// Parses what stands between the brackets.
pub(super) fn parse(text: &str) -> Result<Expression, ExpressionError> {
    let mut parser = Parser { rest: text };
    let expression = parser.expression(0)?;
    parser.skip_spaces();
    if parser.rest.is_empty() {
        return Ok(expression);
    }
    Err(refused(format!(
        "'{}' is not expected at its end",
        parser.rest
    )))
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a sign, if it is next.
    fn take(&mut self, sign: char) -> bool {
        self.skip_spaces();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: char) -> Result<(), ExpressionError> {
        if self.take(sign) {
            return Ok(());
        }
        Err(match self.rest.chars().next() {
            Some(found) => refused(format!("'{sign}' is expected, not '{found}'")),
            None => refused(format!("'{sign}' is missing at its end")),
        })
    }

    fn word(&mut self) -> &'a str {
        self.skip_spaces();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        if depth > DEPTH {
            return Err(refused(format!("calls are nested deeper than {DEPTH}")));
        }
        self.skip_spaces();
        let of = match self.rest.chars().next() {
            Some('\'') => Expression::Literal(Value::from(self.quoted()?)),
            Some(c) if c.is_ascii_digit() || c == '-' => Expression::Literal(self.number()?),
            _ => self.call(depth)?,
        };
        let links = self.links(depth)?;
        Ok(if links.is_empty() {
            of
        } else {
            Expression::Within(Box::new(of), links)
        })
    }

    /// The properties that follow something.
    fn links(&mut self, depth: usize) -> Result<Vec<Link>, ExpressionError> {
        let mut links = Vec::new();
        loop {
            let link = if self.take('.') {
                let name = self.word();
                if name.is_empty() {
                    return Err(refused("the name of a property is missing after '.'"));
                }
                Link::Property(name.to_owned())
            } else if self.take('[') {
                let index = self.expression(depth + 1)?;
                self.expect(']')?;
                Link::Index(index)
            } else {
                return Ok(links);
            };
            if links.len() >= DEPTH {
                return Err(refused(format!(
                    "more than {DEPTH} properties follow one another"
                )));
            }
            links.push(link);
        }
    }

    fn call(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        let name = self.word();
        if name.is_empty() {
            return Err(match self.rest.chars().next() {
                Some(found) => refused(format!("'{found}' is not expected")),
                None => refused("it ends too early"),
            });
        }
        self.expect('(')?;
        let mut arguments = Vec::new();
        if self.take(')') {
            return Ok(Expression::Call(name.to_owned(), arguments));
        }
        loop {
            arguments.push(self.expression(depth + 1)?);
            if self.take(')') {
                return Ok(Expression::Call(name.to_owned(), arguments));
            }
            self.expect(',')?;
        }
    }

    /// Text in single quotes; a quote within it is written twice.
    fn quoted(&mut self) -> Result<String, ExpressionError> {
        let mut text = String::new();
        self.expect('\'')?;
        loop {
            let Some((before, after)) = self.rest.split_once('\'') else {
                return Err(refused("a quote is missing at its end"));
            };
            text.push_str(before);
            self.rest = after;
            match after.strip_prefix('\'') {
                Some(rest) => {
                    text.push('\'');
                    self.rest = rest;
                }
                None => return Ok(text),
            }
        }
    }

    fn number(&mut self) -> Result<Value, ExpressionError> {
        let is_part = |c: char| c.is_ascii_digit() || c == '-';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        let parsed: i64 = number
            .parse()
            .map_err(|_| refused(format!("'{number}' is no whole number")))?;
        Ok(Value::from(parsed))
    }
}

#[cfg(test)]
mod tests;
