//! Buyers who are known by tokens: which are believed, and that no other one buys anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use floodgate::clock::SystemClock;
use floodgate::config::Settings;
use floodgate::http::Auth;
use floodgate::identity::tokens::{JwtSettings, Tokens};
use serde_json::{Value, json};

use crate::gateway::TestGateway;
use crate::issuer::{Issuer, base64, jwks};
use crate::request::{Answer, Call};
use crate::shop::{CONSOLE, SALE};

const SECRET: &str = "a secret of the shop that has 32 bytes and more";

fn by(jwt: JwtSettings) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.auth = Auth::Jwt;
        settings.jwt = jwt;
    }
}

fn keys(path: &Path) -> JwtSettings {
    JwtSettings {
        keys_file: Some(path.to_owned()),
        issuer: Some("https://shop.example".to_owned()),
        audience: Some("floodgate".to_owned()),
        ..JwtSettings::default()
    }
}

async fn seconds(gateway: &TestGateway) -> u64 {
    gateway.now_ms().await / 1_000
}

/// What a good token says.
async fn claims(gateway: &TestGateway, user: &str) -> Value {
    json!({
        "sub": user, "iss": "https://shop.example", "aud": "floodgate",
        "exp": seconds(gateway).await + 600,
    })
}

/// The same, with some claims as they are given; `null` takes one out.
fn changed(claims: &Value, change: Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn want(gateway: &TestGateway) -> Call {
    let body = json!({ "item_id": CONSOLE, "quantity": 1 });
    gateway.call("POST", &format!("/v1/sales/{SALE}/reservations")).json(&body)
}

async fn buy(gateway: &TestGateway, token: &str) -> Answer {
    want(gateway).header("authorization", &format!("Bearer {token}")).send().await
}

/// The issuers of most tests: their keys in one file, and one whose key is in none.
struct Issuers {
    rsa: Issuer,
    ec: Issuer,
    ed: Issuer,
    stranger: Issuer,
    dir: tempfile::TempDir,
}

impl Issuers {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [rsa, stranger] = [2_048, 2_048].map(|bits| Issuer::rs256("r1", bits));
        let (ec, ed) = (Issuer::es256("p1"), Issuer::eddsa("e1"));
        std::fs::write(dir.path().join("keys.json"), jwks(&[&rsa, &ec, &ed])).unwrap();
        Self { rsa, ec, ed, stranger, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("keys.json")
    }
}

/// Forms that are no token of anybody's, made of one that is.
fn misshapen(issuers: &Issuers, good: &Value) -> Vec<(&'static str, String)> {
    let rsa = &issuers.rsa;
    let token = rsa.token(good);
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let bob = base64(changed(good, json!({ "sub": "bob" })).to_string());
    let header_text = rsa.header().to_string();
    let long = changed(good, json!({ "filler": "x".repeat(8 * 1_024) }));
    let twice = format!("{},\"sub\":\"bob\"}}", good.to_string().trim_end_matches('}'));
    let algorithm_twice = format!("{},\"alg\":\"none\"}}", header_text.trim_end_matches('}'));
    vec![
        ("a word", "x".to_owned()),
        ("a dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("no signature", format!("{header}.{payload}.")),
        ("four parts", format!("{token}.x")),
        ("five parts", format!("{token}.x.y")),
        ("half of it", token[..token.len() / 2].to_owned()),
        ("all but a character", token[..token.len() - 1].to_owned()),
        ("another subject", format!("{header}.{bob}.{signature}")),
        (
            "another header",
            format!("{}.{payload}.{signature}", base64(r#"{"alg":"RS256","kid":"r1"}"#)),
        ),
        ("padding", format!("{token}==")),
        ("characters of another base64", format!("{header}.{payload}.{}+/", &signature[2..])),
        ("no base64", format!("{header}.{payload}.!{}", &signature[1..])),
        ("a space", format!("{header}.{payload}. {signature}")),
        ("a tab", format!("{header}.{payload}\t.{signature}")),
        ("two tokens", format!("{token} {token}")),
        ("a list", format!("{token}, {token}")),
        ("quotes", format!("\"{token}\"")),
        ("too long", rsa.token(&long)),
        ("a header that is no JSON", rsa.token_of("{", good.to_string())),
        ("a header that is a list", rsa.token_of("[]", good.to_string())),
        ("an algorithm twice", rsa.token_of(&algorithm_twice, good.to_string())),
        ("claims that are no JSON", rsa.token_of(&header_text, "{")),
        ("claims that are a list", rsa.token_of(&header_text, "[]")),
        ("claims that are no UTF-8", rsa.token_of(&header_text, b"{\"sub\":\"\xff\"}")),
        ("a subject twice", rsa.token_of(&header_text, twice)),
        ("a token in a token", rsa.token_of(&header_text, &token)),
        ("a token in a string in a token", rsa.token_of(&header_text, json!(token).to_string())),
    ]
}

/// Tokens that nobody signed who might have.
fn forged(issuers: &Issuers, good: &Value) -> Vec<(&'static str, String)> {
    let Issuers { rsa, ec, ed, stranger, .. } = issuers;
    let payload = base64(good.to_string());
    let unsigned = |algorithm: &str| {
        format!(
            "{}.{payload}.",
            base64(json!({ "alg": algorithm, "typ": "JWT", "kid": "r1" }).to_string())
        )
    };
    let zeros = |issuer: &Issuer| {
        format!("{}.{payload}.{}", base64(issuer.header().to_string()), base64([0; 64]))
    };
    let by_secret = |secret: &str, id: Value| {
        Issuer::hs256(secret.as_bytes()).token_with(&json!({ "kid": id }), good)
    };
    let own = json!({ "jwk": stranger.jwk });
    vec![
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("NONE", unsigned("NONE")),
        ("nOnE", unsigned("nOnE")),
        ("none, signed", rsa.token_with(&json!({ "alg": "none" }), good)),
        ("the public key as a secret", by_secret(&rsa.pem, json!("r1"))),
        ("the same without its last line's end", by_secret(rsa.pem.trim_end(), json!("r1"))),
        ("the public key as a secret, no kid", by_secret(&rsa.pem, Value::Null)),
        ("the modulus as a secret", by_secret(rsa.jwk["n"].as_str().unwrap(), json!("r1"))),
        ("the curve's point as a secret", by_secret(ec.jwk["x"].as_str().unwrap(), json!("p1"))),
        ("an empty secret", by_secret("", json!("r1"))),
        ("another hash", rsa.token_with(&json!({ "alg": "RS512" }), good)),
        ("another padding", rsa.token_with(&json!({ "alg": "PS256" }), good)),
        ("the algorithm of another key", rsa.token_with(&json!({ "alg": "ES256" }), good)),
        (
            "algorithm and kid of another key",
            rsa.token_with(&json!({ "alg": "ES256", "kid": "p1" }), good),
        ),
        ("the kid of another key", rsa.token_with(&json!({ "kid": "e1" }), good)),
        ("an algorithm that nobody knows", rsa.token_with(&json!({ "alg": "RS256 " }), good)),
        ("an algorithm in lower case", rsa.token_with(&json!({ "alg": "rs256" }), good)),
        ("no algorithm", rsa.token_with(&json!({ "alg": null }), good)),
        ("an algorithm that is a number", rsa.token_with(&json!({ "alg": 256 }), good)),
        ("a list of algorithms", rsa.token_with(&json!({ "alg": ["RS256"] }), good)),
        ("a stranger's key", stranger.token(good)),
        ("a stranger's key, brought along", stranger.token_with(&own, good)),
        (
            "a stranger's key, by address",
            stranger.token_with(&json!({ "jku": "http://127.0.0.1:1/" }), good),
        ),
        ("a kid that is not there", rsa.token_with(&json!({ "kid": "r2" }), good)),
        ("no kid", rsa.token_with(&json!({ "kid": null }), good)),
        ("an empty kid", rsa.token_with(&json!({ "kid": "" }), good)),
        ("a kid that is a number", rsa.token_with(&json!({ "kid": 1 }), good)),
        ("a kid that is a path", rsa.token_with(&json!({ "kid": "../../dev/null" }), good)),
        ("something critical", rsa.token_with(&json!({ "crit": ["exp"] }), good)),
        (
            "something critical that is not encoded",
            rsa.token_with(&json!({ "crit": ["b64"], "b64": false }), good),
        ),
        ("nothing that is critical", rsa.token_with(&json!({ "crit": [] }), good)),
        ("zeros on the curve", zeros(ec)),
        ("zeros on the other curve", zeros(ed)),
    ]
}

/// Claims that say nothing which is believed, whoever signed them.
fn misled(good: &Value, now: u64) -> Vec<(&'static str, Value)> {
    vec![
        ("expired", json!({ "exp": now - 60 })),
        ("expired long ago", json!({ "exp": 0 })),
        ("no end", json!({ "exp": null })),
        ("an end that is a string", json!({ "exp": (now + 600).to_string() })),
        ("an end that is a truth", json!({ "exp": true })),
        ("an end that is a list", json!({ "exp": [now + 600] })),
        ("an end below zero", json!({ "exp": -1 })),
        ("an end beyond the calendar", json!({ "exp": 253_402_300_800_u64 })),
        ("an end beyond all", json!({ "exp": u64::MAX })),
        ("an end beyond numbers", json!({ "exp": 1e300 })),
        ("not yet", json!({ "nbf": now + 600 })),
        ("a begin that is a string", json!({ "nbf": "0" })),
        ("a begin below zero", json!({ "nbf": -1 })),
        ("a begin beyond all", json!({ "nbf": 1e300 })),
        ("nobody", json!({ "sub": null })),
        ("an empty name", json!({ "sub": "" })),
        ("a name that is too long", json!({ "sub": "u".repeat(129) })),
        ("a number", json!({ "sub": 7 })),
        ("a list of names", json!({ "sub": ["ann"] })),
        ("a name with a space", json!({ "sub": "ann bob" })),
        ("a name with a line", json!({ "sub": "ann\nbob" })),
        ("a name with nothing in it", json!({ "sub": "ann\u{0}" })),
        ("a name in other letters", json!({ "sub": "änn" })),
        ("for nobody", json!({ "aud": null })),
        ("for somebody else", json!({ "aud": "shop" })),
        ("for others", json!({ "aud": ["shop", "billing"] })),
        ("for none of many", json!({ "aud": [] })),
        ("for a number", json!({ "aud": 7 })),
        ("for another case", json!({ "aud": "Floodgate" })),
        ("from nobody", json!({ "iss": null })),
        ("from somebody else", json!({ "iss": "https://shop.example.evil" })),
        ("from more", json!({ "iss": ["https://shop.example"] })),
        ("from a part", json!({ "iss": "https://shop" })),
    ]
    .into_iter()
    .map(|(name, change)| (name, changed(good, change)))
    .collect()
}

/// Proves that a token that is misshapen, forged, of a wrong algorithm or key, over, or for somebody else buys
/// nothing, and that the answer never says what was wrong with it.
#[tokio::test]
async fn tokens_that_are_not_believed() {
    let issuers = Issuers::new();
    let gateway = TestGateway::start_with(by(keys(&issuers.file()))).await;
    gateway.sell_consoles(9).await;
    let good = claims(&gateway, "ann").await;
    let mut cases = misshapen(&issuers, &good);
    cases.extend(forged(&issuers, &good));
    for (name, claims) in misled(&good, seconds(&gateway).await) {
        cases.push((name, issuers.rsa.token(&claims)));
        cases.push((name, issuers.ed.token(&claims)));
    }
    assert!(cases.len() > 100, "{}", cases.len());
    let told = buy(&gateway, "x").await.json();
    for (name, token) in &cases {
        let answer = buy(&gateway, token).await;
        assert_eq!(answer.status, 401, "{name}: {answer}");
        answer.refused(401, "identity-required");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer error="invalid_token""#),
            "{name}"
        );
        assert_eq!(answer.json(), told, "{name} is told as everything else");
        assert_eq!(gateway.counters().await, [9, 9, 0, 0], "{name} bought something");
    }
    for path in ["/v1/orders", "/v1/cart"] {
        let call =
            gateway.call("GET", path).header("authorization", &format!("Bearer {}", cases[0].1));
        call.send().await.refused(401, "identity-required");
    }
    // The table proves something only as long as the token that it was made of is good.
    buy(&gateway, &issuers.rsa.token(&good)).await.expect(201);
    gateway.close().await;
}

/// Proves that a request without a token is asked for one, whatever else it brings, and that one with two is
/// malformed.
#[tokio::test]
async fn requests_without_a_token() {
    let jwt = JwtSettings { secret: Some(SECRET.to_owned()), ..JwtSettings::default() };
    let gateway = TestGateway::start_with(by(jwt)).await;
    gateway.sell_consoles(9).await;
    let claims = json!({ "sub": "ann", "exp": seconds(&gateway).await + 600 });
    let good = Issuer::hs256(SECRET.as_bytes()).token(&claims);
    for scheme in [
        None,
        Some("Bearer".to_owned()),
        Some(format!("Basic {good}")),
        Some(format!("Token {good}")),
        Some(good.clone()),
    ] {
        let call = want(&gateway).user("ann").header("cookie", &format!("token={good}"));
        let call = match &scheme {
            Some(scheme) => call.header("authorization", scheme),
            None => call,
        };
        let answer = call.send().await;
        answer.refused(401, "identity-required");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{scheme:?}");
    }
    let bearer = format!("Bearer {good}");
    for second in [bearer.as_str(), "Basic eDp5"] {
        let twice = want(&gateway).header("authorization", &bearer).header("authorization", second);
        twice.send().await.refused(400, "malformed-request");
    }
    want(&gateway)
        .header("authorization", "Bearer é")
        .send()
        .await
        .refused(400, "malformed-request");
    let in_body = json!({ "item_id": CONSOLE, "quantity": 1, "user_id": "ann" });
    let call = gateway.call("POST", &format!("/v1/sales/{SALE}/reservations")).json(&in_body);
    call.send().await.refused(400, "malformed-request");
    assert_eq!(gateway.counters().await, [9, 9, 0, 0]);
    gateway.close().await;
}

/// Proves that a good token of each algorithm makes its subject the buyer, from any peer, whatever `X-User-Id`
/// says; and that clocks may be off by the leeway.
#[tokio::test]
async fn tokens_that_are_believed() {
    let issuers = Issuers::new();
    let gateway = TestGateway::start_with(by(keys(&issuers.file()))).await;
    gateway.sell_consoles(99).await;
    let good = claims(&gateway, "ann").await;
    let now = seconds(&gateway).await;
    let accepted = [
        json!({}),
        json!({ "aud": ["shop", "floodgate"] }),
        json!({ "exp": now - 5 }),
        json!({ "exp": (now + 600) as f64 + 0.5 }),
        json!({ "exp": 253_402_300_799_u64 }),
        json!({ "nbf": now + 10 }),
        json!({ "nbf": 0, "iat": now, "name": "Ann", "roles": ["buyer"] }),
        json!({ "sub": "u".repeat(128) }),
        json!({ "sub": "~!" }),
    ];
    let mut bought = 0;
    for issuer in [&issuers.rsa, &issuers.ec, &issuers.ed] {
        for change in &accepted {
            let claims = changed(&good, change.clone());
            let token = issuer.token(&claims);
            let user = claims["sub"].as_str().unwrap();
            // Twice: once verified, once remembered.
            for scheme in ["Bearer", "bEARER"] {
                let bearer = format!("{scheme} {token}");
                let call = want(&gateway).header("authorization", &bearer).user("mallory");
                let id =
                    call.send().await.expect(201)["reservation_id"].as_str().unwrap().to_owned();
                bought += 1;
                let look = gateway.call("GET", &format!("/v1/reservations/{id}"));
                look.clone().user(user).send().await.refused(401, "identity-required");
                let mallory = issuer.token(&changed(&good, json!({ "sub": "mallory" })));
                let mallory = look.clone().header("authorization", &format!("Bearer {mallory}"));
                mallory.user(user).send().await.refused(404, "not-found");
                look.header("authorization", &bearer).send().await.expect(200);
            }
        }
    }
    assert_eq!(gateway.counters().await, [99, 99 - bought, bought, 0]);
    gateway.close().await;
}

/// Proves that a shared secret does for tokens by HS256, that a token for somebody needs an audience that is
/// configured, and that no public key's token gets by.
#[tokio::test]
async fn tokens_by_a_secret() {
    let jwt = JwtSettings { secret: Some(SECRET.to_owned()), ..JwtSettings::default() };
    let gateway = TestGateway::start_with(by(jwt)).await;
    gateway.sell_consoles(9).await;
    let issuer = Issuer::hs256(SECRET.as_bytes());
    let claims = json!({ "sub": "ann", "exp": seconds(&gateway).await + 600 });
    buy(&gateway, &issuer.token(&claims)).await.expect(201);
    let from_anywhere = changed(&claims, json!({ "iss": "anybody" }));
    buy(&gateway, &issuer.token(&from_anywhere)).await.expect(201);
    buy(&gateway, &issuer.token_with(&json!({ "kid": "any" }), &claims)).await.expect(201);
    let ed = Issuer::eddsa("e1");
    for wrong in [
        issuer.token(&changed(&claims, json!({ "aud": "floodgate" }))),
        issuer.token(&changed(&claims, json!({ "aud": [] }))),
        issuer.token(&changed(&claims, json!({ "aud": 7 }))),
        issuer.token(&changed(&claims, json!({ "iss": 7 }))),
        issuer.token_with(&json!({ "alg": "HS384" }), &claims),
        issuer.token_with(&json!({ "alg": "none" }), &claims),
        Issuer::hs256(&SECRET.as_bytes()[1..]).token(&claims),
        Issuer::hs256(b"").token(&claims),
        ed.token(&claims),
        ed.token_with(&json!({ "alg": "HS256" }), &claims),
    ] {
        buy(&gateway, &wrong).await.refused(401, "identity-required");
    }
    assert_eq!(gateway.counters().await, [9, 6, 3, 0]);
    gateway.close().await;
}

/// Proves that keys are exchanged while it runs: both count while both are there, one that is gone no longer
/// does, not even for tokens that were seen before, and a file that is no good changes nothing.
#[tokio::test]
async fn keys_are_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    let (old, new) = (Issuer::eddsa("old"), Issuer::eddsa("new"));
    std::fs::write(&file, jwks(&[&old])).unwrap();
    let gateway = TestGateway::start_with(by(keys(&file))).await;
    gateway.sell_consoles(99).await;
    let claims = claims(&gateway, "ann").await;
    let believed = async || {
        let mut believed = Vec::new();
        for issuer in [&old, &new] {
            believed.push(buy(&gateway, &issuer.token(&claims)).await.status);
        }
        believed
    };
    assert_eq!(believed().await, [201, 401]);
    std::fs::write(&file, jwks(&[&old, &new])).unwrap();
    assert_eq!(believed().await, [201, 401], "nobody has looked");
    gateway.reload_identity().unwrap();
    assert_eq!(believed().await, [201, 201]);
    std::fs::write(&file, "{").unwrap();
    let fault = gateway.reload_identity().unwrap_err();
    assert!(fault.contains("jwt.keys_file") && fault.contains("keys.json"), "{fault}");
    assert_eq!(believed().await, [201, 201]);
    std::fs::write(&file, jwks(&[&new])).unwrap();
    gateway.reload_identity().unwrap();
    assert_eq!(believed().await, [401, 201]);
    std::fs::remove_file(&file).unwrap();
    gateway.reload_identity().unwrap_err();
    assert_eq!(believed().await, [401, 201]);
    gateway.close().await;
}

/// Proves that public keys as PEM do as well, several of them and of several kinds, and that each fault of a
/// file is named.
#[test]
fn files_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let settings = JwtSettings { keys_file: Some(file.clone()), ..JwtSettings::default() };
        Tokens::new(&settings, Arc::new(SystemClock))
    };
    let (rsa, ec, ed) = (Issuer::rs256("r", 2_048), Issuer::es256("p"), Issuer::eddsa("e"));
    let claims = json!({ "sub": "ann", "exp": 253_402_300_799_u64 });
    for text in
        [format!("issued in November\n{}\n{}{}", rsa.pem, ec.pem, ed.pem), jwks(&[&rsa, &ec, &ed])]
    {
        let tokens = load(&text).unwrap();
        for issuer in [&rsa, &ec, &ed] {
            assert_eq!(tokens.user_of(&issuer.token(&claims)).unwrap().as_str(), "ann");
            let other = Issuer::hs256(issuer.pem.as_bytes()).token(&claims);
            assert!(tokens.user_of(&other).is_err());
        }
    }
    // Keys for something else are passed over.
    let mut passed_over = vec![];
    for change in
        [json!({ "use": "enc" }), json!({ "key_ops": ["sign"] }), json!({ "alg": "RS512" })]
    {
        let mut jwk = changed(&rsa.jwk, change);
        jwk["kid"] = json!(passed_over.len().to_string());
        passed_over.push(jwk);
    }
    let with = |more: &[Value]| {
        let keys = [&passed_over[..], more].concat();
        json!({ "keys": keys }).to_string()
    };
    assert!(load(&with(std::slice::from_ref(&rsa.jwk))).is_ok());

    let small = Issuer::rs256("s", 1_024);
    let private = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let many = (0..5).map(|_| Issuer::eddsa("e").pem).collect::<String>();
    let nameless = changed(&ed.jwk, json!({ "kid": null }));
    let faulty = [
        (String::new(), "no key"),
        ("nonsense".to_owned(), "no key"),
        ("{".to_owned(), "no JWKS"),
        (r#"{"keys":[]}"#.to_owned(), "no key"),
        (with(&[]), "no key"),
        (json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }] }).to_string(), "secret"),
        (json!({ "keys": [changed(&ed.jwk, json!({ "d": "AA" }))] }).to_string(), "secret"),
        (private, "secret"),
        (small.pem.clone(), "too short"),
        (json!({ "keys": [small.jwk] }).to_string(), "too short"),
        (p384.public_key_pem(), "curve"),
        (json!({ "keys": [changed(&ed.jwk, json!({ "x": "AAAA" }))] }).to_string(), "too short"),
        (ed.pem.replace("PUBLIC KEY", "CERTIFICATE"), "no public key"),
        (ed.pem.replace("MC", "!!"), "key 1"),
        (many, "kid"),
        (json!({ "keys": [ed.jwk, nameless] }).to_string(), "kid"),
        (jwks(&[&ed, &ed]), "kid"),
        (" ".repeat(256 * 1_024 + 1), "bytes"),
    ];
    for (text, says) in &faulty {
        let fault = load(text).unwrap_err();
        assert!(fault.starts_with("jwt.keys_file: ") && fault.contains(says), "{says}: {fault}");
        assert!(fault.contains(file.to_str().unwrap()), "{fault}");
    }
    std::fs::remove_file(&file).unwrap();
    let settings = JwtSettings { keys_file: Some(file.clone()), ..JwtSettings::default() };
    let fault = Tokens::new(&settings, Arc::new(SystemClock)).unwrap_err();
    assert!(fault.contains(file.to_str().unwrap()), "{fault}");
}
