//! Where clients find the server.

use std::fmt;
use std::str::FromStr;

use http::header::HOST;
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderMap, HeaderValue};

/// The beginning of the server's absolute URLs: `https://` and an authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(Authority);

/// Text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not where a client can find the server: write https:// and a host, with a port if it is not 443"
)]
pub(crate) struct InvalidOrigin(String);

/// The `Host` header says nothing that could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Host header must be there once, and be a host with or without a port")]
pub(crate) struct InvalidHost;

impl Origin {
    /// The origin that a client used.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, InvalidHost> {
        // A URL in the request line counts more than the header.
        let authority = if let Some(authority) = uri.authority() {
            authority.clone()
        } else {
            let mut hosts = headers.get_all(HOST).iter();
            let (Some(host), None) = (hosts.next(), hosts.next()) else {
                return Err(InvalidHost);
            };
            Authority::try_from(host.as_bytes()).map_err(|_| InvalidHost)?
        };
        Self::from_authority(authority).ok_or(InvalidHost)
    }

    fn from_authority(authority: Authority) -> Option<Self> {
        // `http` takes a user, and a port that is no number.
        let host = authority.host();
        let rest = authority.as_str().strip_prefix(host)?;
        let port = rest.strip_prefix(':').map(str::parse::<u16>);
        let whole = !host.is_empty() && (rest.is_empty() || matches!(port, Some(Ok(_))));
        whole.then_some(Self(authority))
    }

    /// Its authority, as a `Host` header.
    pub(crate) fn host(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.0.as_str()).ok()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        if uri.scheme() != Some(&Scheme::HTTPS) || uri.path() != "/" || uri.query().is_some() {
            return Err(invalid());
        }
        let authority = uri.into_parts().authority.ok_or_else(invalid)?;
        Self::from_authority(authority).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://127.0.0.1:8443", true)]
    #[case("https://migpool.example/", true)]
    #[case("https://[::1]:8443", true)]
    #[case("http://127.0.0.1:8443", false)]
    #[case("https://a@b", false)]
    #[case("https://a:b", false)]
    #[case("https://a/b", false)]
    #[case("https://a/?b", false)]
    #[case("127.0.0.1:8443", false)]
    #[case("", false)]
    fn an_origin_is_an_https_url_of_a_host_alone(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<Origin>().is_ok(), valid);
    }

    #[rstest]
    #[case(&["127.0.0.1:8443"], Some("https://127.0.0.1:8443"))]
    #[case(&["localhost"], Some("https://localhost"))]
    #[case(&[], None)]
    #[case(&["a", "b"], None)]
    #[case(&["a/b"], None)]
    #[case(&["user@a"], None)]
    #[case(&["a:port"], None)]
    #[case(&[""], None)]
    fn the_host_header_is_a_host_and_there_once(
        #[case] hosts: &[&str],
        #[case] origin: Option<&str>,
    ) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        let found = Origin::of(&Uri::from_static("/"), &headers).map(|found| found.to_string());
        assert_eq!(found.ok().as_deref(), origin);
    }
}
