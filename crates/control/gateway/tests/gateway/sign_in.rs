//! Signing in, as Azure's clients do it.

use http::{Method, Request, StatusCode};
use identity::Role;
use rstest::rstest;
use secrecy::ExposeSecret;

use crate::common::{Answer, SUBSCRIPTION, Server, front, group, lenient};

const FORM: &str = "application/x-www-form-urlencoded";

/// Posts a form.
async fn post(server: &Server, path: &str, form: String) -> Answer {
    let request = Request::post(path).header("content-type", FORM);
    server.client().await.request(request, form).await
}

/// Asks for the managed identity's token.
async fn ask(server: &Server, query: &str, header: &str) -> Answer {
    let request = Request::get(format!("/msi/token?{query}"))
        .header("x-identity-header", header)
        .header("metadata", "true");
    server.client().await.request(request, "").await
}

#[tokio::test]
async fn the_managed_identity_signs_in_with_its_header_alone() {
    let server = Server::start().await;
    let header = server.identity.managed_identity_header();
    let query = "api-version=2019-08-01&resource=https%3A%2F%2Fmanagement.migpool.local";
    let answer = ask(&server, query, &header).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.json["token_type"], "Bearer");
    assert_eq!(answer.json["resource"], "https://management.migpool.local");
    let expires: i64 = answer.json["expires_on"].as_str().unwrap().parse().unwrap();
    assert!(expires > 1_700_000_000);
    let token = answer.json["access_token"].as_str().unwrap();
    assert_eq!(
        server.put_group("g", token).await.status,
        StatusCode::CREATED
    );

    for (query, header, status) in [
        (query, "", 401),
        (query, "guess", 401),
        (query, &header[1..], 401),
        (
            "api-version=2019-08-01&resource=https://vault.azure.net",
            &header,
            400,
        ),
        ("api-version=2019-08-01", &header, 400),
        ("resource=https://management.migpool.local", &header, 400),
        (&format!("{query}&client_id=someone"), &header, 400),
    ] {
        let answer = ask(&server, query, header).await;
        assert_eq!(answer.status.as_u16(), status, "{query}: {answer:?}");
        assert_eq!(answer.json["statusCode"], status);
        assert!(answer.json["message"].is_string());
        assert!(answer.json.get("access_token").is_none());
    }
    let answer = server
        .send(Method::GET, &format!("/msi/token?{query}"), None, "")
        .await;
    assert_eq!(
        answer.status,
        StatusCode::UNAUTHORIZED,
        "without the header"
    );
    let answer = server
        .send(Method::POST, &format!("/msi/token?{query}"), None, "")
        .await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("allow"), "GET");
}

#[rstest]
#[case(
    "/adfs/oauth2/token",
    "scope=https%3A%2F%2Fmanagement.migpool.local%2F.default"
)]
#[case(
    "/adfs/oauth2/token",
    "scope=https%3A%2F%2Fmanagement.migpool.local%2F%2F.default"
)]
#[case(
    "/adfs/oauth2/token/",
    "resource=https%3A%2F%2Fmanagement.migpool.local%2F"
)]
#[case(
    "/{tenant}/oauth2/token",
    "resource=https%3A%2F%2Fmanagement.migpool.local"
)]
#[case(
    "/{tenant}/oauth2/v2.0/token",
    "scope=https%3A%2F%2Fmanagement.migpool.local%2F.default"
)]
#[case(
    "/organizations/oauth2/v2.0/token",
    "scope=https%3A%2F%2Fmanagement.migpool.local%2F.default"
)]
#[tokio::test]
async fn a_service_principal_signs_in_at_every_door(#[case] path: &str, #[case] wanted: &str) {
    let server = Server::start().await;
    let new = server
        .principal("app", Role::Contributor, SUBSCRIPTION)
        .await;
    let (id, secret) = (new.client_id, new.secret.expose_secret());
    let path = path.replace("{tenant}", &new.tenant.to_string());
    let form = |secret: &str| {
        format!(
            "client_id={id}&grant_type=client_credentials&client_info=1&client_secret={secret}&claims=%7B%7D&{wanted}"
        )
    };
    let answer = post(&server, &path, form(secret)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.json["token_type"], "Bearer");
    assert_eq!(answer.header("cache-control"), "no-store");
    let life = &answer.json["expires_in"];
    let life = life
        .as_i64()
        .or_else(|| life.as_str()?.parse().ok())
        .unwrap();
    assert!((1700..=1800).contains(&life), "{life}");
    let token = answer.json["access_token"].as_str().unwrap();
    assert_eq!(
        server.put_group("g", token).await.status,
        StatusCode::CREATED
    );

    let answer = post(&server, &path, form("guess")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json["error"], "invalid_client");
    assert_eq!(answer.json["error_codes"][0], 7_000_215);
    let description = answer.json["error_description"].as_str().unwrap();
    assert!(description.starts_with("AADSTS7000215: "), "{description}");
    assert_eq!(answer.json["trace_id"], answer.header("x-ms-request-id"));
    assert!(answer.json.get("access_token").is_none());
}

#[tokio::test]
async fn what_is_wrong_with_a_sign_in_is_said_in_oauths_shape() {
    let server = Server::start().await;
    let unknown = "00000000-0000-0000-0000-000000000009";
    let credentials = format!("grant_type=client_credentials&client_id={unknown}&client_secret=s");
    let audience = "https://management.migpool.local";
    for (path, form, status, error) in [
        ("/adfs/oauth2/token", String::new(), 400, "invalid_request"),
        (
            "/adfs/oauth2/token",
            "\u{0}%ff=%".to_owned(),
            400,
            "invalid_request",
        ),
        (
            "/adfs/oauth2/token",
            "grant_type=password".to_owned(),
            400,
            "unsupported_grant_type",
        ),
        (
            "/adfs/oauth2/token",
            format!("{credentials}&scope={audience}"),
            401,
            "invalid_client",
        ),
        (
            &format!("/{unknown}/oauth2/token"),
            format!("{credentials}&scope={audience}"),
            400,
            "invalid_request",
        ),
        (
            "/common/oauth2/v2.0/devicecode",
            String::new(),
            400,
            "unsupported_grant_type",
        ),
    ] {
        let answer = post(&server, path, form).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert_eq!(answer.json["error"], error, "{answer:?}");
        assert!(answer.json["error_description"].is_string());
    }
    let answer = post(&server, "/adfs/oauth2/token", "a".repeat(20_000)).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let answer = server
        .send(Method::GET, "/adfs/oauth2/token", None, "")
        .await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    let answer = server
        .send(Method::GET, "/adfs/oauth2/authorize?x=y", None, "")
        .await;
    let description = answer.json["error_description"].as_str().unwrap();
    assert!(description.contains("az login --identity"), "{description}");
}

#[tokio::test]
async fn a_client_finds_the_way_to_sign_in() {
    let server = Server::start().await;
    let (origin, tenant) = (
        format!("https://{}", server.address),
        server.identity.tenant(),
    );
    for (path, base) in [
        ("/adfs/.well-known/openid-configuration", "adfs/oauth2"),
        (
            "/adfs/adfs/v2.0/.well-known/openid-configuration",
            "adfs/oauth2/v2.0",
        ),
        (
            &format!("/{tenant}/v2.0/.well-known/openid-configuration"),
            "{tenant}/oauth2/v2.0",
        ),
        (
            &format!("/{tenant}/.well-known/openid-configuration"),
            "{tenant}/oauth2",
        ),
        (
            &format!("/adfs/{tenant}/.well-known/openid-configuration"),
            "{tenant}/oauth2",
        ),
        (
            "/organizations/v2.0/.well-known/openid-configuration",
            "{tenant}/oauth2/v2.0",
        ),
    ] {
        let answer = server.send(Method::GET, path, None, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let base = format!("{origin}/{}", base.replace("{tenant}", &tenant.to_string()));
        assert_eq!(answer.json["token_endpoint"], format!("{base}/token"));
        assert_eq!(
            answer.json["authorization_endpoint"],
            format!("{base}/authorize")
        );
        let keys = answer.json["jwks_uri"].as_str().unwrap();
        let keys = keys.strip_prefix(&origin).unwrap();
        let keys = server.send(Method::GET, keys, None, "").await;
        assert_eq!(keys.json["keys"][0]["kty"], "EC", "{keys:?}");
        assert!(
            keys.json["keys"][0].get("d").is_none(),
            "a private key is given out"
        );
    }
    let other = "/00000000-0000-0000-0000-000000000009/v2.0/.well-known/openid-configuration";
    let answer = server.send(Method::GET, other, None, "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);

    let ours = format!("{origin}/{tenant}/oauth2/v2.0/authorize");
    let path = format!("/common/discovery/instance?api-version=1.1&authorization_endpoint={ours}");
    let answer = server.send(Method::GET, &path, None, "").await;
    let endpoint = &answer.json["tenant_discovery_endpoint"];
    assert!(
        endpoint.as_str().unwrap().starts_with(&origin),
        "{answer:?}"
    );
    let path = "/common/discovery/instance?authorization_endpoint=https://evil.example/a/b";
    let answer = server.send(Method::GET, path, None, "").await;
    assert_eq!(answer.json["error"], "invalid_instance");
}

#[tokio::test]
async fn a_cloud_is_described_in_the_shape_of_the_version_asked_for() {
    let server = Server::start().await;
    let origin = format!("https://{}", server.address);
    let get = async |query: &str| {
        let url = format!("/metadata/endpoints{query}");
        server.send(Method::GET, &url, None, "").await
    };
    let one = get("?api-version=2022-09-01").await.json;
    assert_eq!(
        one["authentication"]["loginEndpoint"],
        format!("{origin}/adfs")
    );
    assert_eq!(
        one["authentication"]["audiences"][0],
        "https://management.migpool.local"
    );
    assert_eq!(one["resourceManager"], origin);
    assert!(
        one["name"].is_string() && one["suffixes"].is_object(),
        "{one}"
    );
    assert_eq!(get("?api-version=2019-05-01").await.json[0], one);
    let old = get("?api-version=2015-01-01").await.json;
    assert_eq!(old["authentication"], one["authentication"]);
    let none = get("").await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    assert_eq!(none.code(), "MissingApiVersionParameter");
}

#[tokio::test]
async fn a_server_that_knows_its_own_address_gives_out_no_other() {
    let origin = "https://migpool.example:443";
    let server = Server::before(lenient(), Some(origin), front).await;
    let cloud = server
        .send(
            Method::GET,
            "/metadata/endpoints?api-version=2022-09-01",
            None,
            "",
        )
        .await;
    assert_eq!(cloud.json["resourceManager"], origin);
    let owner = server.owner().await;
    server.put_group("g", &owner).await;
    let answer = server
        .send(Method::DELETE, &group("g"), Some(&owner), "")
        .await;
    let location = answer.header("location");
    assert!(
        location.starts_with(&format!("{origin}/subscriptions/")),
        "{location}"
    );
}
