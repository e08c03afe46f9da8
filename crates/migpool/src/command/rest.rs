//! `migpool rest`: one request to the ARM API, as `az rest`.

use clap::{Args, ValueEnum};
use hyper::Method;

use crate::arguments::Connection;
use crate::failure::Failure;
use crate::output::write_line;

/// Send one request to the ARM API and print the answer's body, e.g. the article's PUT of a node pool.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    #[command(flatten)]
    connection: Connection,
    /// The HTTP method
    #[arg(short, long, value_enum, ignore_case = true, default_value = "get")]
    method: Verb,
    /// The resource's path, from `/subscriptions/` on
    #[arg(short, long, visible_alias = "url")]
    uri: String,
    /// The body: JSON, or @FILE
    #[arg(short, long)]
    body: Option<String>,
    /// Wait until the long-running operation that the request starts is done
    #[arg(long)]
    wait: bool,
}

/// HTTP methods.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verb {
    Get,
    Put,
    Post,
    Delete,
    Head,
}

impl Rest {
    /// Sends it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        if !self.uri.starts_with('/') {
            return Err(
                Failure::usage(format!("`{}` is not a resource's path", self.uri))
                    .with_help("a path starts with /subscriptions/"),
            );
        }
        let body = match self.body.as_deref() {
            None => None,
            Some(text) => {
                let text = match text.strip_prefix('@') {
                    Some(file) => std::fs::read_to_string(file)
                        .map_err(|e| Failure::usage(format!("cannot read the body {file}: {e}")))?,
                    None => text.to_owned(),
                };
                let json = serde_json::from_str(&text)
                    .map_err(|error| Failure::usage(format!("the body is not JSON: {error}")))?;
                Some(json)
            }
        };
        let method = match self.method {
            Verb::Get => Method::GET,
            Verb::Put => Method::PUT,
            Verb::Post => Method::POST,
            Verb::Delete => Method::DELETE,
            Verb::Head => Method::HEAD,
        };
        let client = self.connection.client()?;
        let answer = client.call(method, &self.uri, body.as_ref()).await?;
        write_line(&answer.text)?;
        if self.wait {
            client.wait(&answer, &self.uri).await
        } else {
            Ok(())
        }
    }
}
